; Macros, repetitions and conditions: the bytes stand in the bodies.
bits 32
macro zero register
    xor register, register          ; = 31 c0
endmacro
    zero eax
macro twice_as_wide value
    if value < 256
        dw value                    ; = 05 00
    else
        dd value
    endif
endmacro
    twice_as_wide 5
rept 1, i
    db i, "{i}", 7                  ; = 00 30 07
endrept
struct pair
    first: u8
    second: u32
endstruct
    mov eax, [ebx + pair.second]                                ; = 8b 43 04
    mov byte [ebx + pair[2].first], sizeof(pair)                ; = c6 43 10 08
    mov eax, [esi + start_info.shared_info]                     ; = 8b 46 24
    cmp byte [ebx + shared_info.vcpu_info[1].evtchn_upcall_mask], 0 ; = 80 7b 41 00
section .rodata
trap_table traps
    trap 3, traps, dpl=3                                        ; = 03 03 19 e0 00 10 00 00
    trap 14, traps, mask                                        ; = 0e 04 19 e0 00 10 00 00
end                                                             ; = 00 00 00 00 00 00 00 00
