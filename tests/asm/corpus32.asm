; 32-bit code as kernels are written in it. GNU as and guestkit make the same bytes of every line.
; Where the two spell things differently (st1, tword, rel), the test translates.
bits 32

; ---- arithmetic: the short immediate, the accumulator's own form, the general one
start:
    add eax, 1
    add eax, 127
    add eax, 128
    add eax, -128
    add eax, -129
    add eax, 0xffffffff
    add eax, 0x80000000
    add ax, 0xff80
    add ax, 0x1234
    add al, 0x80
    add al, -1
    add ecx, 1
    add ecx, 0x1000
    add cl, 5
    add ch, ah
    add cx, 0xffff
    add byte ptr [ebx], 5
    add word ptr [ebx], 5
    add word ptr [ebx], 0x1234
    add dword ptr [ebx], 5
    add dword ptr [ebx], 0x12345678
    add eax, ebx
    add eax, [ebx]
    add [ebx], eax
    adc edx, 0
    sbb edx, edx
    and esp, -16
    and esp, 0xfffffff0
    and eax, 0xfffff000
    and edx, 0xfff
    or byte ptr [esi+1], 0x80
    xor eax, eax
    xor ax, 0x5555
    cmp byte ptr [esi], 10
    cmp al, 0x7f
    cmp eax, 0x7f
    cmp esi, edi
    sub esp, 12
    sub esp, 0x200
    test al, 1
    test eax, 1
    test ebx, 0x200
    test bl, 0x80
    test dword ptr [ebx+4], 0x80000000
    test byte ptr [ebx+4], 2
    test eax, eax
    test [ebx], eax
    test eax, [ebx]
    not eax
    neg dword ptr [ebp-4]
    mul ecx
    mul byte ptr [esi]
    imul ecx
    imul eax, ecx
    imul eax, [ebx+8]
    imul eax, ebx, 10
    imul eax, ebx, 1000
    imul ax, bx, -3
    imul ecx, 12
    imul ecx, 4096
    div ebx
    idiv word ptr [ebx]
    inc eax
    inc bl
    inc word ptr [edi]
    dec esi
    dec dword ptr [count]
    daa
    das
    aaa
    aas
    aam
    aad
    aam 16
    cbw
    cwde
    cwd
    cdq

; ---- shifts and bits
shifts:
    shl eax, 1
    shl eax, 12
    shl eax, cl
    sal bl, 3
    shr edx, 31
    shr word ptr [ebx], cl
    sar eax, 31
    sar dword ptr [esp+8], 1
    rol cx, 8
    ror byte ptr [ebx], 4
    rcl eax, 1
    rcr edx, cl
    shld eax, edx, 4
    shld [ebx], edx, cl
    shrd eax, edx, 12
    shrd eax, edx, cl
    bt eax, 5
    bt [ebx], eax
    bts dword ptr [ebx], 31
    lock bts dword ptr [esi], 0
    btr edx, ecx
    btc word ptr [edi], 3
    bsf eax, ebx
    bsr eax, [ebx]
    popcnt eax, edx
    tzcnt eax, edx
    lzcnt ax, [edx]
    bswap eax
    bswap edi

; ---- moves
moves:
    mov eax, ebx
    mov ebx, eax
    mov al, bh
    mov si, di
    mov eax, 0
    mov eax, -1
    mov ax, 0x10
    mov cl, 'A'
    mov byte ptr [ebx], 0x41
    mov word ptr [ebx], 0x4142
    mov dword ptr [ebx], -1
    mov dword ptr [esp+4], 0x12345678
    mov eax, [count]
    mov [count], eax
    mov al, [count]
    mov [count], al
    mov ax, [count+2]
    mov ebx, [count]
    mov [count], ebx
    mov eax, fs:[0]
    mov ecx, gs:[20]
    mov fs:[ebx], eax
    mov edx, es:[edi+ecx*4]
    mov eax, cs:[ebx]
    mov eax, [table+ecx*4]
    mov eax, [ecx*4+0x1000]
    mov eax, [ecx*8]
    mov eax, [eax+ebx]
    mov eax, [eax+ebx*2+0x12345678]
    mov eax, [esp]
    mov eax, [esp+ebx]
    mov eax, [ebp]
    mov eax, [ebp+ebx]
    mov eax, [ebp+ebx*4-4]
    mov eax, [ebx-128]
    mov eax, [ebx-129]
    mov eax, [ebx+127]
    mov eax, [ebx+128]
    mov eax, [ebx+0xfffffffc]
    mov ax, ds
    mov eax, ds
    mov [ebx], ss
    mov ds, ax
    mov es, eax
    mov fs, [ebx]
    movzx eax, al
    movzx eax, byte ptr [esi]
    movzx ecx, word ptr [esi+2]
    movzx dx, cl
    movsx eax, ax
    movsx ebx, byte ptr [ebx]
    movbe eax, [ebx]
    lea eax, [ebx+ecx*4+8]
    lea esp, [ebp-12]
    lea ax, [ebx]
    lea edi, [count]
    xchg eax, ebx
    xchg ebx, eax
    xchg ecx, edx
    xchg [ebx], eax
    xchg al, [ebx]
    xchg ax, dx
    lock xadd [ebx], ecx
    xadd bl, cl
    lock cmpxchg [edi], edx
    cmpxchg byte ptr [edi], cl
    lock cmpxchg8b [esi]
    cmove eax, ebx
    cmovae ecx, [ebx]
    cmovle dx, si
    sete al
    setnz byte ptr [ebx]
    setg dl
    xlatb
    lahf
    sahf

; ---- the stack
stack:
    push eax
    push bx
    push dword ptr [ebx]
    push word ptr [ebx]
    push 1
    push -1
    push 0x80
    push 0x12345678
    push cs
    push ds
    push es
    push ss
    push fs
    push gs
    pop gs
    pop fs
    pop ss
    pop es
    pop ds
    pop eax
    pop bp
    pop dword ptr [ebx+4]
    pusha
    popa
    pushf
    popf
    enter 16, 0
    enter 0x100, 1
    leave

; ---- strings and ports
strings:
    movsb
    movsw
    movsd
    rep movsb
    rep movsd
    rep stosd
    rep stosw
    repe cmpsb
    repne scasb
    repnz scasd
    lodsb
    lodsd
    stosb
    scasw
    cmpsd
    es lodsb
    rep insb
    rep outsw
    in al, 0x60
    in ax, 0x60
    in eax, 0x60
    in al, dx
    in eax, dx
    out 0x20, al
    out 0x43, eax
    out dx, al
    out dx, ax
    cld
    std
    cmc
    clc
    stc

; ---- going elsewhere: short jumps, and near ones where those do not reach
control:
    jmp control
    jmp forward
    jmp far_away
    je control
    jne forward
    jb far_away
    jnae far_away
    jc control
    jpe control
    jpo control
    jnle start
    js near_end
    call control
    call far_away
    call eax
    call [table]
    call dword ptr [table+eax*4]
    jmp eax
    jmp dword ptr [ebx+8]
    loop control
    loope control
    loopne control
    jecxz control
    jcxz control
forward:
    jmp 0xe019:0x12345678
    call 0xe021:0x12345678
    ret
    ret 8
    retf
    retf 4
    iret
    iretd
    int 0x80
    int 0x82
    int3
    int1
    into
    bound eax, [ebx]
    ud2
    ud0 eax, [ebx]
    ud1 ecx, edx
    hlt
    nop
    nop dword ptr [eax]
    nop word ptr [eax+ebx+0]
    pause
near_end:

; ---- system instructions
system:
    mov eax, cr0
    mov cr0, eax
    mov ebx, cr2
    mov cr3, ecx
    mov esi, cr4
    mov cr4, edi
    mov eax, dr7
    mov dr0, ebx
    lgdt [ebx]
    lidt [descriptor]
    sgdt [esp]
    sidt [esp+6]
    lldt ax
    lldt word ptr [ebx]
    ltr cx
    sldt eax
    sldt [ebx]
    str dx
    smsw ax
    smsw [ebx]
    lmsw ax
    clts
    lar eax, bx
    lar eax, [ebx]
    lsl ecx, edx
    verr ax
    verw [ebx]
    arpl [ebx], ax
    les eax, [ebx]
    lds esi, [ebp+8]
    lss esp, [stack_pointer]
    lfs ebx, [eax]
    lgs edi, [eax]
    invlpg [eax]
    invd
    wbinvd
    rdmsr
    wrmsr
    rdtsc
    rdtscp
    rdpmc
    cpuid
    cli
    sti
    rsm
    sysenter
    sysexit
    syscall
    monitor
    mwait
    xgetbv
    xsetbv
    clac
    stac
    vmcall
    vmmcall
    vmlaunch
    vmresume
    vmxoff
    vmrun
    vmload
    vmsave
    stgi
    clgi
    skinit
    lfence
    mfence
    sfence
    prefetchnta [ebx]
    prefetcht0 [ebx+64]
    prefetchw [ebx]
    clflush [ebx]

; ---- x87, MMX, SSE
numbers:
    fninit
    finit
    fld dword ptr [ebx]
    fld qword ptr [ebx]
    fld tword ptr [ebx]
    fld st1
    fst qword ptr [ebx]
    fstp dword ptr [ebx]
    fstp tword ptr [ebx]
    fstp st0
    fild word ptr [ebx]
    fild dword ptr [ebx]
    fild qword ptr [ebx]
    fistp dword ptr [ebx]
    fistp qword ptr [ebx]
    fld1
    fldz
    fldpi
    fadd dword ptr [ebx]
    fadd st, st3
    fadd st3, st
    fsub st2, st
    fsubr st2, st
    fsub st, st2
    fdiv st1, st
    fdivrp st1, st
    faddp
    fmulp st1, st
    fxch st1
    fchs
    fsqrt
    fnstcw [ebx]
    fstcw [ebx]
    fldcw [ebx]
    fnstsw ax
    fstsw [ebx]
    fnclex
    fnsave [ebx]
    fsave [ebx]
    frstor [ebx]
    fxsave [ebx]
    fxrstor [ebx]
    fwait
    emms
    movd mm0, eax
    movd [ebx], mm1
    movq mm2, [ebx]
    movq [ebx], mm2
    paddd mm0, mm1
    pxor mm3, [ebx]
    movd xmm0, eax
    movq xmm1, [ebx]
    movq [ebx], xmm1
    movaps xmm0, xmm1
    movaps [ebx], xmm0
    movups xmm2, [ebx]
    movdqa xmm3, [ebx]
    movdqu [ebx+16], xmm3
    pxor xmm0, xmm0
    paddd xmm1, [ebx]
    addps xmm0, xmm1
    addss xmm0, [ebx]
    addsd xmm1, xmm2
    mulps xmm3, [ebx]
    xorps xmm4, xmm4
    movss xmm0, [ebx]
    movsd xmm0, [ebx]
    movsd [ebx], xmm0
    cvtsi2sd xmm0, eax
    cvttsd2si eax, xmm0
    ldmxcsr [ebx]
    stmxcsr [ebx]

; ---- 16-bit addresses
narrow:
    mov ax, [bx+si]
    mov al, [bp+di+4]
    mov eax, [si]
    mov [di+0x1234], cx
    mov ax, [bp]
    lea eax, [bx+1]

; ---- data that the code above names; and a label too far for a short jump
count:
    nop
table:
    nop
descriptor:
    nop
stack_pointer:
    nop
far_away:
    jmp control
    jmp far_away
