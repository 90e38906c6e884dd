; Data, as NASM writes it too.
bits 32
    db 1, 2, 0xff, -1                                           ; = 01 02 ff ff
    db "text", 0                                                ; = 74 65 78 74 00
    db 'a', 'b' + 1                                             ; = 61 63
    dw 1, 0x1234, -2                                            ; = 01 00 34 12 fe ff
    dd 0x12345678, -1                                           ; = 78 56 34 12 ff ff ff ff
    dq 0x123456789abcdef0                                       ; = f0 de bc 9a 78 56 34 12
    dw "abc"                                                    ; = 61 62 63 00
    dd "abcde"                                                  ; = 61 62 63 64 65 00 00 00
start:
    dd start, here, $                                           ; = 2d 00 00 00 39 00 00 00 2d 00 00 00
here:
    dd here - start, $ - $$                                     ; = 0c 00 00 00 39 00 00 00
    times 3 dw 0x55aa                                           ; = aa 55 aa 55 aa 55
    align 16, 0xee                                              ; = ee ee ee ee ee ee ee ee ee
    dd $                                                        ; = 50 00 00 00
