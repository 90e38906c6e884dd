"""The rows of the MMX and SSE instructions: moves, simple arithmetic, conversions and the MXCSR register."""

SIMD = """
# ---------------------------------------------------------------- moves

emms
                        | 0F 77
movd
    mm, r/m32           | 0F 6E /r
    r/m32, mm           | 0F 7E /r
    xmm, r/m32          | 66 0F 6E /r
    r/m32, xmm          | 66 0F 7E /r
movq
    mm, mm/m64          | 0F 6F /r
    m64, mm             | 0F 7F /r
    xmm, xmm/m64        | F3 0F 7E /r
    m64, xmm            | 66 0F D6 /r
    mm, r64             | REX.W 0F 6E /r    | o64
    r64, mm             | REX.W 0F 7E /r    | o64
    xmm, r64            | 66 REX.W 0F 6E /r | o64
    r64, xmm            | 66 REX.W 0F 7E /r | o64
movups
    xmm, xmm/m128       | 0F 10 /r
    m128, xmm           | 0F 11 /r
movupd
    xmm, xmm/m128       | 66 0F 10 /r
    m128, xmm           | 66 0F 11 /r
movss
    xmm, xmm/m32        | F3 0F 10 /r
    m32, xmm            | F3 0F 11 /r
movsd
    xmm, xmm/m64        | F2 0F 10 /r
    m64, xmm            | F2 0F 11 /r
movaps
    xmm, xmm/m128       | 0F 28 /r
    m128, xmm           | 0F 29 /r
movapd
    xmm, xmm/m128       | 66 0F 28 /r
    m128, xmm           | 66 0F 29 /r
movdqa
    xmm, xmm/m128       | 66 0F 6F /r
    m128, xmm           | 66 0F 7F /r
movdqu
    xmm, xmm/m128       | F3 0F 6F /r
    m128, xmm           | F3 0F 7F /r
movnti
    my, ry              | 0F C3 /r
movntps
    m128, xmm           | 0F 2B /r
movntdq
    m128, xmm           | 66 0F E7 /r

# ---------------------------------------------------------------- arithmetic on floating-point numbers

- sqrtps rsqrtps rcpps andps andnps orps xorps addps mulps - - subps minps divps maxps
    xmm, xmm/m128       | 0F 50+n /r
- sqrtpd - - andpd andnpd orpd xorpd addpd mulpd - - subpd minpd divpd maxpd
    xmm, xmm/m128       | 66 0F 50+n /r
- sqrtss rsqrtss rcpss - - - - addss mulss - - subss minss divss maxss
    xmm, xmm/m32        | F3 0F 50+n /r
- sqrtsd - - - - - - addsd mulsd - - subsd minsd divsd maxsd
    xmm, xmm/m64        | F2 0F 50+n /r
ucomiss comiss
    xmm, xmm/m32        | 0F 2E+n /r
ucomisd comisd
    xmm, xmm/m64        | 66 0F 2E+n /r
shufps
    xmm, xmm/m128, imm8 | 0F C6 /r ib

# ---------------------------------------------------------------- conversions

cvtsi2ss
    xmm, r/my           | F3 0F 2A /r
cvtsi2sd
    xmm, r/my           | F2 0F 2A /r
cvttss2si cvtss2si
    ry, xmm/m32         | F3 0F 2C+n /r
cvttsd2si cvtsd2si
    ry, xmm/m64         | F2 0F 2C+n /r
cvtps2pd
    xmm, xmm/m64        | 0F 5A /r
cvtss2sd
    xmm, xmm/m32        | F3 0F 5A /r
cvtsd2ss
    xmm, xmm/m64        | F2 0F 5A /r
cvtdq2ps
    xmm, xmm/m128       | 0F 5B /r
cvttps2dq
    xmm, xmm/m128       | F3 0F 5B /r

# ---------------------------------------------------------------- arithmetic on packed integers

pcmpgtb pcmpgtw pcmpgtd - - - - - - - - - - - - - pcmpeqb pcmpeqw pcmpeqd
    mm, mm/m64          | 0F 64+n /r
    xmm, xmm/m128       | 66 0F 64+n /r
paddq pmullw
    mm, mm/m64          | 0F D4+n /r
    xmm, xmm/m128       | 66 0F D4+n /r
pand - - - pandn
    mm, mm/m64          | 0F DB+n /r
    xmm, xmm/m128       | 66 0F DB+n /r
por - - - pxor
    mm, mm/m64          | 0F EB+n /r
    xmm, xmm/m128       | 66 0F EB+n /r
psubb psubw psubd psubq paddb paddw paddd
    mm, mm/m64          | 0F F8+n /r
    xmm, xmm/m128       | 66 0F F8+n /r
pshufd
    xmm, xmm/m128, imm8 | 66 0F 70 /r ib

# ---------------------------------------------------------------- the control and status register

- - ldmxcsr stmxcsr
    m32                 | 0F AE /n
"""
