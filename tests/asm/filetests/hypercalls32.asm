; What stands behind a hypercall, in 32-bit code without a hypercall page.
bits 32
    hypercall sched_op, SCHEDOP_yield, 0                        ; = 31 db 31 c9 b8 1d 00 00 00 cd 82
    hypercall memory_op, ecx, ebx                               ; = 87 d9 b8 0c 00 00 00 cd 82
    hypercall memory_op, 7, [esp + 4]                           ; = bb 07 00 00 00 8b 4c 24 04 b8 0c 00 00 00 cd 82
    hypercall memory_op, eax, &[esp + 4]                        ; = 89 c3 8d 4c 24 04 b8 0c 00 00 00 cd 82
    hypercall memory_op, cl, word [ebx]                         ; = 87 d9 0f b6 db 0f b7 09 b8 0c 00 00 00 cd 82
    hypercall update_va_mapping, 0xc0000000, 0:eax, UVMF_INVLPG ; = bb 00 00 00 c0 89 c1 31 d2 be 02 00 00 00 b8 0e 00 00 00 cd 82
    hypercall set_timer_op, edx:eax                             ; = 89 c3 89 d1 b8 0f 00 00 00 cd 82
    hypercall set_timer_op, 0x123456789                         ; = bb 89 67 45 23 b9 01 00 00 00 b8 0f 00 00 00 cd 82
    hypercall set_timer_op, [ebp + 8]                           ; = 8b 5d 08 8b 4d 0c b8 0f 00 00 00 cd 82
    hypercall iret                                              ; = 50 b8 17 00 00 00 cd 82
    fep cpuid                                                   ; = 0f 0b 78 65 6e 0f a2
