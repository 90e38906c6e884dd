/* probe32.c - a 32-bit PV kernel for record_variants.py: prints where Xen has put things and powers off.
 *
 * Lines: `SEEN` start_info and stack; then start_info's fields by name; then the page tables, targets as
 * pfns, with runs of equal L1 flags as one line. It is linked wherever a variant of the kernel has its entry. */
typedef unsigned int u32;
typedef unsigned long long u64;

struct start_info {
    char magic[32];
    u32 nr_pages, shared_info, flags, store_mfn, store_evtchn, console[2];
    u32 pt_base, nr_pt_frames, mfn_list, mod_start, mod_len;
    char cmd_line[1024];
    u32 first_p2m_pfn, nr_p2m_frames;
};

enum { MEMORY_OP = 12, CONSOLE_IO = 18, SCHED_OP = 29, MACHPHYS_MAPPING = 12, SHUTDOWN = 2 };

void probe(struct start_info *info, u32 stack);

/* The linker puts this section before all other code. */
asm(".section .text.unlikely,\"ax\"\n"
    ".globl _start\n"
    "_start: mov %esp,%eax; push %eax; push %esi; call probe; ud2\n"
    ".text\n");

static u32 virtual_base;
static const u32 *machine_to_physical;

static long hypercall(u32 number, u32 a, u32 b, u32 c) {
    long result;
    asm volatile("int $0x82" : "=a"(result), "+b"(a), "+c"(b), "+d"(c) : "0"(number) : "memory");
    return result;
}

static void text(const char *s) {
    u32 length = 0;
    while (s[length])
        length++;
    hypercall(CONSOLE_IO, 0, length, (u32)s);
}

static void hex(const char *before, u32 value) {
    char digits[9];
    for (int i = 0; i < 8; i++)
        digits[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
    digits[8] = 0;
    text(before);
    text(digits);
}

static u32 pfn(u64 entry) {
    return machine_to_physical[entry >> 12];
}

static u64 *table(u64 entry) {
    return (u64 *)(virtual_base + (pfn(entry) << 12));
}

static void link(const char *level, u32 address, u64 entry) {
    hex(level, address);
    hex(" pfn ", pfn(entry));
    hex(" flags ", entry & 0xfff);
    text("\n");
}

static void run(u32 from, u32 to, u32 flags) {
    if (flags == 0)
        return;
    hex("L1 ", from);
    hex(" to ", to);
    hex(" flags ", flags);
    text("\n");
}

static void walk(u64 *l3, u32 end) {
    u32 from = 0, flags = 0;
    for (u32 i = 0; i < 4; i++) {
        link("L3 ", i << 30, l3[i]);
        u64 *l2 = table(l3[i]);
        for (u32 j = 0; j < 512 && ((i << 30) | (j << 21)) < end; j++) {
            if (l2[j] & 1)
                link("L2 ", (i << 30) | (j << 21), l2[j]);
            for (u32 k = 0; k < 512; k++) {
                u32 here = (i << 30) | (j << 21) | (k << 12);
                u64 entry = l2[j] & 1 ? table(l2[j])[k] : 0;
                u32 now = entry & 1 ? entry & 0xfff : 0;
                if (now != flags) {
                    run(from, here, flags);
                    from = here;
                    flags = now;
                }
            }
        }
    }
    run(from, end, flags);
}

void probe(struct start_info *info, u32 stack) {
    u32 mapping[3], reason = 0;
    hex("SEEN start_info ", (u32)info);
    hex(", esp ", stack);
    text("\n");
    hypercall(MEMORY_OP, MACHPHYS_MAPPING, (u32)mapping, 0);
    machine_to_physical = (const u32 *)mapping[0];
    const struct {
        const char *name;
        u32 value;
    } fields[] = {
        {"nr_pages ", info->nr_pages},           {"flags ", info->flags & ~0xff00},
        {"pt_base ", info->pt_base},             {"nr_pt_frames ", info->nr_pt_frames},
        {"mfn_list ", info->mfn_list},           {"mod_start ", info->mod_start},
        {"mod_len ", info->mod_len},             {"first_p2m_pfn ", info->first_p2m_pfn},
        {"nr_p2m_frames ", info->nr_p2m_frames}, {"machphys ", mapping[0]},
    };
    for (u32 i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        hex(fields[i].name, fields[i].value);
        text("\n");
    }
    /* The L3 lies at pt_base, and its own mfn names its pfn. */
    u32 cr3;
    asm volatile("mov %%cr3,%0" : "=r"(cr3));
    virtual_base = info->pt_base - (machine_to_physical[cr3 >> 12 | cr3 << 20] << 12);
    walk((u64 *)info->pt_base, mapping[0] < 0xF5800000u ? mapping[0] : 0xF5800000u);
    text("DONE\n");
    hypercall(SCHED_OP, SHUTDOWN, (u32)&reason, 0);
}
