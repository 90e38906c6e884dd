; 32-bit code that NASM and guestkit take as it stands, with the same bytes: what GNU as has no words for.
bits 32

start:
    mov eax, start
    mov ebx, data
    mov esi, data+4
    mov dword [ebx], data
    mov [data], eax
    mov eax, [data]
    mov ecx, [data+ebx*4]
    mov ecx, [ebx+data]
    add eax, data
    add ecx, data
    cmp dword [data], data
    push dword [data]
    push data
    push word 0x1234
    push word 5
    push dword 0x12345678
    test byte [data], 1
    lea edi, [data+ebx]
    imul eax, ebx, data
    call [data]
    call dword [data+eax*4]

    jmp far [ebx]
    jmp far word [ebx]
    jmp far dword [ebx]
    call far [data]
    call far word [data]
    jmp 0xe019:start
    call 0xe021:data
    les ax, [ebx]
    lss esp, [data]

    jmp short next
    jmp near next
    je near next
    jne short next
next:
    loop next
    jecxz next
    retn
    retn 8
    iretw
    iretd
    retfw
    salc
    icebp
    int 0x82
    pushaw
    popaw
    pushad
    popad
    pushfw
    popfd

    es lodsb
    fs movsd
    a16 movsb
    repne scasd
    lock inc dword [data]
    lock cmpxchg8b [data]
    lock xchg [ebx], eax
    mov eax, [cs:data]
    mov word [gs:4], 1

    ud0 eax, ebx
    fstsw ax
    fadd st0, st3
    fmul st2, st0
    fcomip st0, st1
    fxch st4
    fld tword [data]
    fbstp tword [data]
    movaps xmm1, [data]
    prefetchnta [data]
    lar eax, bx
    lsl ecx, [ebx]
    smsw ecx
    sldt dx

data:
    nop
