"""The rows of the system instructions: control registers, descriptor tables, MSRs, caches, virtualization."""

SYSTEM = """
# ---------------------------------------------------------------- control and debug registers

mov
    r32, CRn            | 0F 20 /r          | i64
    r64, CRn            | 0F 20 /r          | o64
    r32, DRn            | 0F 21 /r          | i64
    r64, DRn            | 0F 21 /r          | o64
    CRn, r32            | 0F 22 /r          | i64
    CRn, r64            | 0F 22 /r          | o64
    DRn, r32            | 0F 23 /r          | i64
    DRn, r64            | 0F 23 /r          | o64
clts
                        | 0F 06
smsw
    m16                 | 0F 01 /4
    rv                  | 0F 01 /4
lmsw
    r/m16               | 0F 01 /6

# ---------------------------------------------------------------- descriptor tables and selectors

sgdt sidt lgdt lidt
    m                   | 0F 01 /n
sldt str
    m16                 | 0F 00 /n
    r16                 | 66 0F 00 /n
    r32                 | 0F 00 /n
    r64                 | 0F 00 /n          | o64
- - lldt ltr verr verw
    r/m16               | 0F 00 /n
lar lsl
    rv, r/m16           | 0F 02+n /r
    r32, r32            | 0F 02+n /r
    r64, r32            | REX.W 0F 02+n /r  | o64
    r64, r64            | REX.W 0F 02+n /r  | o64
arpl
    r/m16, r16          | 63 /r             | i64
swapgs
                        | 0F 01 F8          | o64
rdfsbase rdgsbase wrfsbase wrgsbase
    ry                  | F3 0F AE /n       | o64

# ---------------------------------------------------------------- system calls

syscall
                        | 0F 05
sysret
                        | 0F 07
sysretq
                        | REX.W 0F 07       | o64
sysenter sysexit
                        | 0F 34+n
sysexitq
                        | REX.W 0F 35       | o64
rsm
                        | 0F AA

# ---------------------------------------------------------------- MSRs, counters, identification

wrmsr rdtsc rdmsr rdpmc
                        | 0F 30+n
rdtscp
                        | 0F 01 F9
cpuid
                        | 0F A2
xgetbv xsetbv
                        | 0F 01 D0+n
monitor mwait clac stac
                        | 0F 01 C8+n
rdpid
    r32                 | F3 0F C7 /7       | i64
    r64                 | F3 0F C7 /7       | o64
serialize
                        | 0F 01 E8
endbr64 endbr32
                        | F3 0F 1E FA+n
- - - - - - rdrand rdseed
    rv                  | 0F C7 /n

# ---------------------------------------------------------------- caches, translations, order of memory

invd wbinvd
                        | 0F 08+n
invlpg
    m                   | 0F 01 /7
invpcid
    r32, m128           | 66 0F 38 82 /r    | i64
    r64, m128           | 66 0F 38 82 /r    | o64
wbnoinvd
                        | F3 0F 09
clflush
    m8                  | 0F AE /7
- - - - - - clwb clflushopt
    m8                  | 66 0F AE /n
prefetchnta prefetcht0 prefetcht1 prefetcht2
    m8                  | 0F 18 /n
prefetch prefetchw
    m8                  | 0F 0D /n
lfence mfence sfence
                        | 0F AE E8+8n

# ---------------------------------------------------------------- the state of all extensions

- - - - xsave xrstor xsaveopt
    m                   | 0F AE /n
- - - - xsave64 xrstor64 xsaveopt64
    m                   | REX.W 0F AE /n    | o64
- - - xrstors xsavec xsaves
    m                   | 0F C7 /n
- - - xrstors64 xsavec64 xsaves64
    m                   | REX.W 0F C7 /n    | o64

# ---------------------------------------------------------------- virtualization

getsec
                        | 0F 37
- - - - - - vmptrld vmptrst
    m64                 | 0F C7 /n
vmclear
    m64                 | 66 0F C7 /6
vmxon
    m64                 | F3 0F C7 /6
vmread
    r/m32, r32          | 0F 78 /r          | i64
    r/m64, r64          | 0F 78 /r          | o64
vmwrite
    r32, r/m32          | 0F 79 /r          | i64
    r64, r/m64          | 0F 79 /r          | o64
invept invvpid
    r32, m128           | 66 0F 38 80+n /r  | i64
    r64, m128           | 66 0F 38 80+n /r  | o64
- vmcall vmlaunch vmresume vmxoff
                        | 0F 01 C0+n
vmrun vmmcall vmload vmsave stgi clgi skinit invlpga
                        | 0F 01 D8+n
"""
