"""The rows of the instructions that go elsewhere: jumps, calls, returns, loops, interrupts and traps."""

CONTROL = """
jmp
    rel8                | EB cb
    rel32               | E9 cd
    r/mv                | FF /4             | f64
    m16:v               | FF /5
    ptr16:32            | EA cp             | i64
call
    rel32               | E8 cd
    r/mv                | FF /2             | f64
    m16:v               | FF /3
    ptr16:32            | 9A cp             | i64
j{cc}
    rel8                | 70+n cb
    rel32               | 0F 80+n cd

loopne/loopnz loope/loopz loop
    rel8                | E0+n cb
jcxz
    rel8                | 67 E3 cb          | i64
jecxz
    rel8                | E3 cb             | i64
    rel8                | 67 E3 cb          | o64
jrcxz
    rel8                | E3 cb             | o64

ret/retn
                        | C3
    imm16               | C2 iw
retf
                        | CB
    imm16               | CA iw
retfw
                        | 66 CB
    imm16               | 66 CA iw
retfq
                        | REX.W CB          | o64
    imm16               | REX.W CA iw       | o64
iret/iretd
                        | CF
iretw
                        | 66 CF
iretq
                        | REX.W CF          | o64

int3
                        | CC
int
    3                   | CC
    imm8                | CD ib
into
                        | CE                | i64
int1/icebp
                        | F1
bound
    rv, m               | 62 /r             | i64
ud0
    rv, r/mv            | 0F FF /r
ud1
    rv, r/mv            | 0F B9 /r
ud2
                        | 0F 0B
hlt
                        | F4
nop
                        | 90
    r/mv                | 0F 1F /0
pause
                        | F3 90
"""
