"""The rows of the integer instructions: arithmetic, logic, data movement, bits, strings and ports."""

# The rows of one mnemonic stand in order of preference: the first that fits the operands is the encoding.
INTEGER = """
# ---------------------------------------------------------------- arithmetic and logic

add or adc sbb and sub xor cmp
    r/mv, simm8         | 83 /n ib
    AL, imm8            | 04+8n ib
    rAX, immz           | 05+8n iz
    r/m8, imm8          | 80 /n ib
    r/mv, immz          | 81 /n iz
    r/m8, r8            | 00+8n /r
    r/mv, rv            | 01+8n /r
    r8, r/m8            | 02+8n /r
    rv, r/mv            | 03+8n /r

test
    AL, imm8            | A8 ib
    rAX, immz           | A9 iz
    r/m8, imm8          | F6 /0 ib
    r/mv, immz          | F7 /0 iz
    r/m8, r8            | 84 /r
    r/mv, rv            | 85 /r
    r8, r/m8            | 84 /r
    rv, r/mv            | 85 /r

- - not neg mul imul div idiv
    r/m8                | F6 /n
    r/mv                | F7 /n

imul
    rv, r/mv            | 0F AF /r
    rv, r/mv, simm8     | 6B /r ib
    rv, r/mv, immz      | 69 /r iz
    rv, simm8           | 6B /rr ib
    rv, immz            | 69 /rr iz

inc dec
    rv                  | 40+8n+r           | i64
    r/m8                | FE /n
    r/mv                | FF /n

rol ror rcl rcr shl/sal shr - sar
    r/m8, 1             | D0 /n
    r/mv, 1             | D1 /n
    r/m8, CL            | D2 /n
    r/mv, CL            | D3 /n
    r/m8, imm8          | C0 /n ib
    r/mv, imm8          | C1 /n ib

shld shrd
    r/mv, rv, imm8      | 0F A4+8n /r ib
    r/mv, rv, CL        | 0F A5+8n /r

daa das aaa aas
                        | 27+8n             | i64
aam aad
                        | D4+n 0A           | i64
    imm8                | D4+n ib           | i64

# ---------------------------------------------------------------- moving data

mov
    AL, moffs8          | A0                | i64
    rAX, moffsv         | A1                | i64
    moffs8, AL          | A2                | i64
    moffsv, rAX         | A3                | i64
    r/m8, r8            | 88 /r
    r/mv, rv            | 89 /r
    r8, r/m8            | 8A /r
    rv, r/mv            | 8B /r
    r8, imm8            | B0+r ib
    r/m64, known32      | REX.W C7 /0 id    | o64
    rv, immv            | B8+r iv
    r/m8, imm8          | C6 /0 ib
    r/mv, immz          | C7 /0 iz
    m16, Sreg           | 8C /r
    r16, Sreg           | 66 8C /r
    r32, Sreg           | 8C /r
    r64, Sreg           | 8C /r             | o64
    Sreg, r32/m16       | 8E /r
    Sreg, r16           | 8E /r
    Sreg, r64           | 8E /r             | o64

# In 64-bit code the moffs forms are the only ones with a whole 64-bit address.
mov movabs
    AL, moffs8          | A0                | o64
    rAX, moffsv         | A1                | o64
    moffs8, AL          | A2                | o64
    moffsv, rAX         | A3                | o64
movabs
    r64, imm64          | REX.W B8+r io     | o64

movzx movsx
    rv, r/m8            | 0F B6+8n /r
    ry, r/m16           | 0F B7+8n /r
movsxd
    r64, r/m32          | REX.W 63 /r       | o64
movbe
    rv, mv              | 0F 38 F0 /r
    mv, rv              | 0F 38 F1 /r
lea
    rv, m               | 8D /r
les lds
    rv, m16:v           | C4+n /r           | i64
- - lss - lfs lgs
    rv, m16:v           | 0F B0+n /r

# In 64-bit code 90 is a NOP, which keeps the upper half of RAX; XCHG EAX, EAX clears it.
xchg
    EAX, EAX            | 87 C0             | o64
    RAX, RAX            | 90                | o64
    rv, rAX             | 90+r
    rAX, rv             | 90+r
    r/m8, r8            | 86 /r
    r/mv, rv            | 87 /r
    r8, r/m8            | 86 /r
    rv, r/mv            | 87 /r
xadd
    r/m8, r8            | 0F C0 /r
    r/mv, rv            | 0F C1 /r
cmpxchg
    r/m8, r8            | 0F B0 /r
    r/mv, rv            | 0F B1 /r
cmpxchg8b
    m64                 | 0F C7 /1
cmpxchg16b
    m128                | REX.W 0F C7 /1    | o64

cbw
                        | 66 98
cwde
                        | 98
cdqe
                        | REX.W 98          | o64
cwd
                        | 66 99
cdq
                        | 99
cqo
                        | REX.W 99          | o64

cmov{cc}
    rv, r/mv            | 0F 40+n /r
set{cc}
    r/m8                | 0F 90+n /0

# ---------------------------------------------------------------- bits

bsf bsr
    rv, r/mv            | 0F BC+n /r
popcnt
    rv, r/mv            | F3 0F B8 /r
tzcnt lzcnt
    rv, r/mv            | F3 0F BC+n /r
- - - - bt bts btr btc
    r/mv, imm8          | 0F BA /n ib
    r/mv, rv            | 0F 83+8n /r
bswap
    ry                  | 0F C8+r

# ---------------------------------------------------------------- the stack

push
    rv                  | 50+r              | d64
    simm8               | 6A ib             | d64
    immz                | 68 iz             | d64
    r/mv                | FF /6             | d64
    ES                  | 06                | i64
    CS                  | 0E                | i64
    SS                  | 16                | i64
    DS                  | 1E                | i64
    FS                  | 0F A0
    GS                  | 0F A8
pop
    rv                  | 58+r              | d64
    r/mv                | 8F /0             | d64
    ES                  | 07                | i64
    SS                  | 17                | i64
    DS                  | 1F                | i64
    FS                  | 0F A1
    GS                  | 0F A9
pusha/pushad popa/popad
                        | 60+n              | i64
pushaw popaw
                        | 66 60+n           | i64
pushf popf
                        | 9C+n
pushfw popfw
                        | 66 9C+n
pushfd popfd
                        | 9C+n              | i64
pushfq popfq
                        | 9C+n              | o64
enter
    imm16, imm8         | C8 iw ib
leave
                        | C9

# ---------------------------------------------------------------- strings and ports

movsb cmpsb - stosb lodsb scasb
                        | A4+2n
movsw cmpsw - stosw lodsw scasw
                        | 66 A5+2n
movsd cmpsd - stosd lodsd scasd
                        | A5+2n
movsq cmpsq - stosq lodsq scasq
                        | REX.W A5+2n       | o64
insb outsb
                        | 6C+2n
insw outsw
                        | 66 6D+2n
insd outsd
                        | 6D+2n
xlatb/xlat
                        | D7
in
    AL, imm8            | E4 ib
    AX, imm8            | 66 E5 ib
    EAX, imm8           | E5 ib
    AL, DX              | EC
    AX, DX              | 66 ED
    EAX, DX             | ED
out
    imm8, AL            | E6 ib
    imm8, AX            | 66 E7 ib
    imm8, EAX           | E7 ib
    DX, AL              | EE
    DX, AX              | 66 EF
    DX, EAX             | EF

# ---------------------------------------------------------------- flags

cmc
                        | F5
clc stc cli sti cld std
                        | F8+n
sahf lahf
                        | 9E+n
salc
                        | D6                | i64
"""
