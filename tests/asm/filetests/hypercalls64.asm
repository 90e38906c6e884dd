; What stands behind a hypercall, in 64-bit code without a hypercall page.
bits 64
    hypercall sched_op, SCHEDOP_yield, 0                        ; = 31 ff 31 f6 51 41 53 b8 1d 00 00 00 0f 05 41 5b 59
    hypercall memory_op, rsi, rdi                               ; = 48 87 fe 51 41 53 b8 0c 00 00 00 0f 05 41 5b 59
    hypercall memory_op, 7, [rsp + 8]                           ; = bf 07 00 00 00 48 8b 74 24 08 51 41 53 b8 0c 00 00 00 0f 05 41 5b 59
    hypercall memory_op, eax, &[rsp + 8]                        ; = 89 c7 48 8d 74 24 08 51 41 53 b8 0c 00 00 00 0f 05 41 5b 59
    hypercall memory_op, esi, byte [rdi]                        ; = 48 87 fe 89 ff 0f b6 36 51 41 53 b8 0c 00 00 00 0f 05 41 5b 59
    hypercall set_timer_op, 0x123456789                         ; = 48 bf 89 67 45 23 01 00 00 00 51 41 53 b8 0f 00 00 00 0f 05 41 5b 59
    hypercall iret                                              ; = 51 41 53 50 b8 17 00 00 00 0f 05
    fep cpuid                                                   ; = 0f 0b 78 65 6e 0f a2
