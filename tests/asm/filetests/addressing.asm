; Every way to write an address.
bits 32
here:
    mov eax, [here]                                             ; = a1 00 00 00 00
    mov eax, [here + 8]                                         ; = a1 08 00 00 00
    mov ecx, [ebx]                                              ; = 8b 0b
    mov ecx, [ebx + 8]                                          ; = 8b 4b 08
    mov ecx, [ebx - 8]                                          ; = 8b 4b f8
    mov ecx, [ebx + 0x80]                                       ; = 8b 8b 80 00 00 00
    mov ecx, [here + ebx]                                       ; = 8b 8b 00 00 00 00
    mov ecx, [ebx + esi * 4]                                    ; = 8b 0c b3
    mov ecx, [esi * 4 + ebx]                                    ; = 8b 0c b3
    mov ecx, [ebx + esi * 4 + here]                             ; = 8b 8c b3 00 00 00 00
    mov ecx, [4 * esi + 2 * 8 + ebx - 1]                        ; = 8b 4c b3 0f
    mov ecx, [ebx + esp]                                        ; = 8b 0c 1c
    mov ecx, [esp + ebx]                                        ; = 8b 0c 1c
    mov ecx, [esp]                                              ; = 8b 0c 24
    mov ecx, [ebp]                                              ; = 8b 4d 00
    mov ecx, [ebp + eax * 1]                                    ; = 8b 4c 05 00
    mov ecx, [eax * 3]                                          ; = 8b 0c 40
    mov ecx, [eax * 5 + 4]                                      ; = 8b 4c 80 04
    mov ecx, [eax * 9]                                          ; = 8b 0c c0
    mov ecx, [eax * 8]                                          ; = 8b 0c c5 00 00 00 00
    mov ecx, [bx + si]                                          ; = 67 8b 08
    mov ecx, [bp + 4]                                           ; = 67 8b 4e 04
    mov ecx, [fs:ebx]                                           ; = 64 8b 0b
    mov ecx, [gs:4]                                             ; = 65 8b 0d 04 00 00 00
    mov byte [ebx], 1                                           ; = c6 03 01
    mov word [ebx], 1                                           ; = 66 c7 03 01 00
    mov dword [ebx], here                                       ; = c7 03 00 00 00 00
    push dword [ebx]                                            ; = ff 33
    inc byte [ebx + ecx * 2]                                    ; = fe 04 4b
    lea edx, [ebx + ecx]                                        ; = 8d 14 0b
    jmp [ebx]                                                   ; = ff 23
    call dword [here]                                           ; = ff 15 00 00 00 00
    jmp far [ebx]                                               ; = ff 2b
    jmp 0xe019:here                                             ; = ea 00 00 00 00 19 e0
    call 0xe019:0x1000                                          ; = 9a 00 10 00 00 19 e0
bits 64
there:
    mov eax, [rel there]                                        ; = 8b 05 fa ff ff ff
    mov rax, [rel there + 8]                                    ; = 48 8b 05 fb ff ff ff
    mov byte [rel there], 1                                     ; = c6 05 ec ff ff ff 01
    add qword [rel there], 0x1000                               ; = 48 81 05 e1 ff ff ff 00 10 00 00
    mov ecx, [abs 0x1000]                                       ; = 8b 0c 25 00 10 00 00
    mov ecx, [r8 + r9 * 8 + 0x100]                              ; = 43 8b 8c c8 00 01 00 00
    mov ecx, [r13]                                              ; = 41 8b 4d 00
    mov ecx, [r12]                                              ; = 41 8b 0c 24
    mov ecx, [ebx]                                              ; = 67 8b 0b
    mov rcx, [gs:0x18]                                          ; = 65 48 8b 0c 25 18 00 00 00
    lea rdx, [rel there]                                        ; = 48 8d 15 b7 ff ff ff
    mov rax, there                                              ; = 48 b8 8f 00 00 00 00 00 00 00
    mov rax, -1                                                 ; = 48 c7 c0 ff ff ff ff
    mov rax, 0x123456789abc                                     ; = 48 b8 bc 9a 78 56 34 12 00 00
    mov eax, 0x80000000                                         ; = b8 00 00 00 80
    jmp [rel there]                                             ; = ff 25 91 ff ff ff
