; Short where short reaches, near elsewhere.
bits 32
start:
    jmp start                                                   ; = eb fe
    jmp .near                                                   ; = eb 16
    jz .near                                                    ; = 74 14
    jmp .far                                                    ; = e9 92 00 00 00
    jz .far                                                     ; = 0f 84 8c 00 00 00
    call .near                                                  ; = e8 04 00 00 00
    loop start                                                  ; = e2 e8
    jecxz start                                                 ; = e3 e6
.near:
    nop                                                         ; = 90
    times 130 nop
.far:
    jmp .far                                                    ; = eb fe
    jmp .near                                                   ; = e9 76 ff ff ff
    jnz start                                                   ; = 0f 85 56 ff ff ff
    jmp short .far                                              ; = eb f1
    jmp near .far                                               ; = e9 ec ff ff ff
    jmp edge                                                    ; = eb 7f
    times 127 nop
edge:
    jmp over                                                    ; = e9 80 00 00 00
    times 128 nop
over:
    jmp back                                                    ; = eb 00
back:
    times 126 nop
    jmp back                                                    ; = eb 80
    jmp back                                                    ; = e9 7b ff ff ff
