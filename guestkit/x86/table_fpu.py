"""The rows of the x87 instructions: moves, arithmetic, and all that saves and loads the state."""

FPU = """
# ---------------------------------------------------------------- loads and stores

fld
    m32                 | D9 /0
    m64                 | DD /0
    m80                 | DB /5
    STi                 | D9 C0+i
fst
    m32                 | D9 /2
    m64                 | DD /2
    STi                 | DD D0+i
fstp
    m32                 | D9 /3
    m64                 | DD /3
    m80                 | DB /7
    STi                 | DD D8+i
fild
    m16                 | DF /0
    m32                 | DB /0
    m64                 | DF /5
fist
    m16                 | DF /2
    m32                 | DB /2
fistp
    m16                 | DF /3
    m32                 | DB /3
    m64                 | DF /7
fbld
    m80                 | DF /4
fbstp
    m80                 | DF /6
fxch
                        | D9 C9
    STi                 | D9 C8+i
fld1 fldl2t fldl2e fldpi fldlg2 fldln2 fldz
                        | D9 E8+n

# ---------------------------------------------------------------- arithmetic

fadd fmul fcom fcomp fsub fsubr fdiv fdivr
    m32                 | D8 /n
    m64                 | DC /n
    STi                 | D8 C0+8n+i
fiadd fimul ficom ficomp fisub fisubr fidiv fidivr
    m32                 | DA /n
    m16                 | DE /n
fadd fmul - - fsub fsubr fdiv fdivr
    ST, STi             | D8 C0+8n+i
# With STi as the destination, the processor has SUB and SUBR, DIV and DIVR the other way round.
fadd fmul - - fsubr fsub fdivr fdiv
    STi, ST             | DC C0+8n+i
faddp fmulp - - fsubrp fsubp fdivrp fdivp
                        | DE C1+8n
    STi                 | DE C0+8n+i
    STi, ST             | DE C0+8n+i

fchs fabs - - ftst fxam
                        | D9 E0+n
f2xm1 fyl2x fptan fpatan fxtract fprem1 fdecstp fincstp fprem fyl2xp1 fsqrt fsincos frndint fscale fsin fcos
                        | D9 F0+n
fcom fcomp
                        | D8 D1+8n
fcompp
                        | DE D9
fucom fucomp
                        | DD E1+8n
    STi                 | DD E0+8n+i
fucompp
                        | DA E9
fucomi fcomi
    ST, STi             | DB E8+8n+i
fucomip fcomip
    ST, STi             | DF E8+8n+i

# ---------------------------------------------------------------- state; the names without N wait first

fwait/wait
                        | 9B
fnop
                        | D9 D0
ffree
    STi                 | DD C0+i
fnclex fninit
                        | DB E2+n
fclex finit
                        | 9B DB E2+n
fnstsw
    AX                  | DF E0
    m16                 | DD /7
fstsw
    AX                  | 9B DF E0
    m16                 | 9B DD /7
fldcw
    m16                 | D9 /5
fnstcw
    m16                 | D9 /7
fstcw
    m16                 | 9B D9 /7
fldenv
    m                   | D9 /4
fnstenv
    m                   | D9 /6
fstenv
    m                   | 9B D9 /6
frstor
    m                   | DD /4
fnsave
    m                   | DD /6
fsave
    m                   | 9B DD /6
fxsave fxrstor
    m                   | 0F AE /n
fxsave64 fxrstor64
    m                   | REX.W 0F AE /n    | o64
"""
