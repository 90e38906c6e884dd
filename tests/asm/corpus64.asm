; 64-bit code as kernels are written in it. GNU as and guestkit make the same bytes of every line.
; Where the two spell things differently (st1, tword, rel), the test translates.
bits 64

; ---- arithmetic
start:
    add rax, 1
    add rax, 0x1000
    add rax, -1
    add rax, 0xffffffffffffff80
    add rcx, 0x7fffffff
    add rcx, -0x80000000
    add eax, 0xffffffff
    add r8, 1
    add r8d, 0x1000
    add r9w, 0x1234
    add r10b, 5
    add spl, 1
    add sil, dil
    add bpl, r15b
    add ah, bl
    add [r12], rax
    add rax, [r13]
    add qword ptr [rsp+8], 1
    add dword ptr [r15*4+16], 0x12345678
    adc rdx, 0
    sbb rdx, rdx
    and rsp, -16
    or r11, rax
    xor eax, eax
    xor r8d, r8d
    xor r15, r15
    cmp rax, 0x12345678
    cmp byte ptr [rdi], 0
    cmp r14b, 10
    sub rsp, 0x28
    test rax, rax
    test al, 1
    test r9, 0x200
    test dword ptr [rbx], 1
    test rax, 0x7fffffff
    not rax
    neg r9
    mul rcx
    imul rax, rcx
    imul rax, [rbx+8]
    imul r8, r9, 10
    imul r8, 1000
    div r10
    idiv qword ptr [rbx]
    inc rax
    inc eax
    inc r8b
    dec qword ptr [rsp]
    cbw
    cwde
    cdqe
    cwd
    cdq
    cqo

; ---- shifts and bits
shifts:
    shl rax, 1
    shl rax, 47
    shl r8, cl
    shr rdx, 32
    sar qword ptr [rsp+8], 63
    rol r9w, 8
    rcr r10d, cl
    shld rax, rdx, 16
    shrd [rbx], r8, cl
    bt rax, 63
    bt [rbx], r9
    bts qword ptr [rbx], 40
    lock btr qword ptr [rsi], 0
    bsf rax, rbx
    bsr r8, [r9]
    popcnt rax, rdx
    tzcnt r8, r9
    bswap rax
    bswap r8d
    bswap r15

; ---- moves
moves:
    mov rax, rbx
    mov r8, r15
    mov r8d, eax
    mov r9w, r10w
    mov r11b, sil
    mov ah, bh
    mov eax, 0x80000000
    mov eax, -1
    mov rax, 0
    mov rax, -1
    mov rax, 0x7fffffff
    mov rax, 0x80000000
    mov rax, 0xffffffff80000000
    mov rax, 0x123456789abcdef0
    mov r10, 0xffff800000000000
    mov r10, 1
    mov r8d, 5
    mov r12b, 7
    mov qword ptr [rbx], -1
    mov qword ptr [rbx], 0x12345678
    mov dword ptr [r8], 1
    movabs rax, 1
    movabs rax, [0x1122334455667788]
    movabs [0x1122334455667788], al
    mov rax, [0x1122334455667788]
    mov [0xffff800000000000], eax
    mov rax, [0x1234]
    mov rcx, [0x1234]
    mov al, [0x1234]
    mov rax, gs:[0]
    mov rax, fs:[0x28]
    mov rax, [rel count]
    mov [rel count], rcx
    mov dword ptr [rel count], 0x12345678
    mov byte ptr [rel count+1], 1
    cmp dword ptr [rel count], 1
    lea rdi, [rel count]
    lea rax, [rbx+rcx*8+16]
    lea r8, [r9+r10]
    lea eax, [rbx]
    lea rax, [rbx*2]
    mov rax, [rsp]
    mov rax, [rbp]
    mov rax, [r12]
    mov rax, [r13]
    mov rax, [r12+r13]
    mov rax, [r13+r12*2]
    mov rax, [rbp+r13*8-8]
    mov rax, [rsp+rbp]
    mov rax, [rbx+127]
    mov rax, [rbx+128]
    mov rax, [rbx-0x80000000]
    mov rax, [r15*8]
    mov rax, [r15*8+0x1000]
    mov eax, [ebx]
    mov eax, [r8d+r9d*4]
    mov rax, [esp+8]
    mov eax, ds
    mov ds, ax
    mov fs, eax
    mov [rbx], ss
    movzx eax, al
    movzx rax, bl
    movzx r8d, sil
    movzx ecx, word ptr [rsi+2]
    movsx rax, bl
    movsx rax, ax
    movsxd rax, ecx
    movsxd r8, dword ptr [rbx]
    movbe rax, [rbx]
    xchg rax, rbx
    xchg r8, rax
    xchg eax, eax
    xchg rax, rax
    xchg r9d, r10d
    xchg [rbx], rax
    lock xadd [rbx], r8
    lock cmpxchg [rdi], rdx
    lock cmpxchg8b [rsi]
    lock cmpxchg16b [rsi]
    cmovne rax, r8
    cmovl r9d, [rbx]
    sete r8b
    setb sil
    setne byte ptr [r9]
    xlatb

; ---- the stack
stack:
    push rax
    push r8
    push ax
    push qword ptr [rbx]
    push [rbx]
    push word ptr [rbx]
    push 1
    push -1
    push 0x12345678
    push -0x80000000
    push fs
    push gs
    pop gs
    pop fs
    pop rax
    pop r15
    pop r9w
    pop qword ptr [r9]
    pushf
    popf
    pushfq
    popfq
    enter 32, 0
    leave

; ---- strings and ports
strings:
    movsb
    movsd
    movsq
    rep movsq
    rep stosq
    rep stosb
    repe cmpsb
    repne scasq
    lodsq
    gs lodsb
    rep insb
    rep outsd
    in al, dx
    out dx, eax
    out 0xe9, al

; ---- going elsewhere
control:
    jmp control
    jmp forward
    jmp far_away
    jne control
    jae forward
    jz far_away
    call control
    call far_away
    call rax
    call r11
    call [rbx]
    call qword ptr [r8+r9*8]
    jmp rax
    jmp r8
    jmp qword ptr [rel count]
    loop control
    jrcxz control
    jecxz control
forward:
    ret
    ret 16
    retfq
    iretq
    syscall
    sysretq
    sysenter
    sysexitq
    int 0x80
    int3
    int1
    ud2
    ud1 rax, [rbx]
    hlt
    nop
    nop dword ptr [rax]
    nop dword ptr [rax+rbx*1+0x12345678]
    nop word ptr [r8+r9]
    pause

; ---- system instructions
system:
    mov rax, cr0
    mov cr3, r8
    mov rax, cr8
    mov cr8, rax
    mov r9, cr4
    mov rax, dr7
    mov dr3, r10
    lgdt [rax]
    lidt [rel count]
    sgdt [r8]
    sidt [rsp]
    lldt ax
    ltr r8w
    sldt eax
    sldt rax
    str rbx
    smsw rax
    lmsw [r9]
    lar rax, bx
    lar eax, r8d
    lsl r9, [rbx]
    lss esp, [rbx]
    lgs r8d, [r9]
    swapgs
    rdfsbase rax
    wrgsbase r9
    rdrand eax
    rdseed r8
    invlpg [r8]
    invpcid rax, [rbx]
    clts
    wbinvd
    rdmsr
    wrmsr
    rdtscp
    cpuid
    monitor
    mwait
    xgetbv
    clac
    stac
    vmcall
    vmmcall
    vmrun
    stgi
    clgi
    invlpga
    lfence
    prefetcht0 [r8]
    clflush [r15+r14]

; ---- x87, MMX, SSE
numbers:
    fninit
    fld qword ptr [r8]
    fstp tword ptr [rsp]
    fld st2
    fnstcw [rsp]
    fldcw [r9]
    fnsave [r8]
    frstor [rbx]
    fxsave [rax]
    fxsave64 [r8]
    fxrstor64 [rbx]
    movd xmm0, eax
    movd r8d, xmm9
    movq xmm0, rax
    movq rax, xmm15
    movq xmm8, [r8]
    movq [rbx], xmm8
    movq mm0, rax
    movaps xmm8, xmm15
    movaps [rsp+16], xmm10
    movups xmm1, [r12+r13*4]
    movdqa xmm9, [rel count]
    movdqu [rbx], xmm14
    pxor xmm8, xmm8
    paddd xmm1, xmm12
    addps xmm0, xmm9
    addsd xmm9, [rbx]
    cvtsi2sd xmm0, rax
    cvtsi2ss xmm8, r9d
    cvttsd2si rax, xmm0
    pshufd xmm1, xmm9, 0x1b
    movnti [rbx], rax
    ldmxcsr [rsp]
    stmxcsr [r8]

; ---- data that the code above names; and a label too far for a short jump
count:
    nop
far_away:
    jmp control
    jmp far_away
