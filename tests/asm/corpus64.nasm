; 64-bit code that NASM and guestkit take as it stands, with the same bytes: what GNU as has no words for.
bits 64

start:
    mov rax, data
    mov r10, data+8
    mov eax, data
    mov qword [rbx], data
    mov dword [rbx], data
    mov rcx, [data]
    mov rcx, [rel data]
    mov [rel data], r8
    mov dword [rel data], 5
    mov rcx, [rbx+data]
    lea rsi, [rel data+4]
    add rcx, data
    add ecx, data
    push data
    push qword [rel data]
    push word 5
    cmp qword [rel data], 1
    call [rel data]

    jmp far word [rbx]
    jmp far dword [r8]
    jmp far qword [rbx]
    call far qword [r9+8]
    lss ax, [rbx]
    lss rax, [rbx]
    lfs r8, [r9]
    lar rax, ebx

    jmp short next
    jmp near next
    je near next
next:
    loopne next
    jecxz next
    jrcxz next
    retn
    retf
    retfq
    iret
    iretd
    iretq
    icebp
    sysret
    sysexit
    pushfw
    popfq

    a32 movsb
    gs lodsq
    fs movsb
    repe cmpsq
    lock inc qword [rel data]
    lock cmpxchg16b [rel data]
    mov eax, [fs:0x28]
    mov rax, [gs:rbx+8]
    mov eax, [eax+4]
    mov eax, [r8d+r9d*8]

    fxsave64 [rel data]
    movq xmm9, r8
    movq r8, xmm9
    cvtsi2sd xmm9, qword [rel data]
    cvtsi2sd xmm9, dword [rel data]
    movsx rax, byte [rel data]
    movsxd r9, dword [rel data]
data:
    nop
