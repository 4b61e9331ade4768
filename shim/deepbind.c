/*
 * RTLD_DEEPBIND: a library that is loaded with it, and what it brings along, finds a name in its own libraries, libc among them,
 * before it looks among those that were preloaded. PHP loads each of its extensions so. Such a library would make system
 * calls on anchors; so its references to libc's functions that are ours by name are pointed at ours when it is loaded.
 * Whatever else it binds to stays, and so does what is not libc's there.
 *
 * Not reached: what such a library does in its constructors, one that only the RUNPATH of who asks for it leads to, and
 * dlmopen(), which brings a libc of its own.
 */
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#define RELOC_WORD R_X86_64_64
#define RELOC_DATA R_X86_64_GLOB_DAT
#define RELOC_SLOT R_X86_64_JUMP_SLOT
#else
#define RELOC_WORD R_AARCH64_ABS64
#define RELOC_DATA R_AARCH64_GLOB_DAT
#define RELOC_SLOT R_AARCH64_JUMP_SLOT
#endif

/* More than the shim exports; further ones stay as they are. */
#define NAMES_MAX 256

typedef void *(*opener)(const char *path, int mode);

/** Where dlopen() below goes on: to `at`, or back with `handle` where that is NULL. In two registers. */
struct onward {
	opener at;
	void *handle;
};

/* Where this library begins, by its linker. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

struct onward flat_dlopen_onward(const char *path, int mode)
    __attribute__((visibility("hidden"), used));

/*
 * dlopen() looks at its return address: the caller's RUNPATH and namespace are used. So it is jumped to with the caller's own,
 * and a compiler does not promise such a jump.
 */
#if defined(__x86_64__)
__asm__(".pushsection .text\n"
	".globl dlopen\n"
	".type dlopen, @function\n"
	"dlopen:\n"
	".cfi_startproc\n"
	"	endbr64\n"
	"	pushq %rdi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	pushq %rsi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	subq $8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	call flat_dlopen_onward\n"
	"	addq $8, %rsp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq %rsi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq %rdi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	testq %rax, %rax\n"
	"	jz 1f\n"
	"	jmpq *%rax\n"
	"1:	movq %rdx, %rax\n"
	"	ret\n"
	".cfi_endproc\n"
	".size dlopen, . - dlopen\n"
	".popsection\n");
#else
__asm__(".pushsection .text\n"
	".globl dlopen\n"
	".type dlopen, %function\n"
	"dlopen:\n"
	".cfi_startproc\n"
	"	hint #34\n" /* bti c */
	"	stp x29, x30, [sp, #-32]!\n"
	"	.cfi_adjust_cfa_offset 32\n"
	"	.cfi_rel_offset x29, 0\n"
	"	.cfi_rel_offset x30, 8\n"
	"	stp x0, x1, [sp, #16]\n"
	"	bl flat_dlopen_onward\n"
	"	mov x16, x0\n"
	"	mov x17, x1\n"
	"	ldp x0, x1, [sp, #16]\n"
	"	ldp x29, x30, [sp], #32\n"
	"	.cfi_adjust_cfa_offset -32\n"
	"	.cfi_restore x29\n"
	"	.cfi_restore x30\n"
	"	cbz x16, 1f\n"
	"	br x16\n"
	"1:	mov x0, x17\n"
	"	ret\n"
	".cfi_endproc\n"
	".size dlopen, . - dlopen\n"
	".popsection\n");
#endif

/* A function of libc's that is ours by name, where the new library means libc's. */
struct name {
	const char *text;
	uintptr_t ours;
	uintptr_t libc;
};

struct names {
	void *handle; /* what the library and those that it brought look in first */
	size_t n;
	struct name v[NAMES_MAX];
};

/* What is read of an object's dynamic section. */
struct dynamic {
	const ElfW(Sym) * symbols;
	const char *strings;
	const uint32_t *hash;
	const ElfW(Rela) * relocs[2];
	size_t bytes[2]; /* of relocs */
};

/* The dynamic linker has put addresses where offsets were, unless the section is read-only. */
static const void *pointer(uintptr_t base, uintptr_t value)
{
	return (const void *)(value < base ? base + value : value);
}

static void read_dynamic(struct dynamic *d, uintptr_t base, const ElfW(Dyn) * section)
{
	memset(d, 0, sizeof(*d));
	for (; section->d_tag != DT_NULL; section++) {
		const void *p = pointer(base, section->d_un.d_ptr);
		switch (section->d_tag) {
		case DT_SYMTAB:
			d->symbols = p;
			break;
		case DT_STRTAB:
			d->strings = p;
			break;
		case DT_GNU_HASH:
			d->hash = p;
			break;
		case DT_RELA:
			d->relocs[0] = p;
			break;
		case DT_RELASZ:
			d->bytes[0] = section->d_un.d_val;
			break;
		case DT_JMPREL:
			d->relocs[1] = p;
			break;
		case DT_PLTRELSZ:
			d->bytes[1] = section->d_un.d_val;
			break;
		default:
			break;
		}
	}
}

static void note(struct names *names, const struct dynamic *d, const ElfW(Sym) * symbol)
{
	const char *text = d->strings + symbol->st_name;
	if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || names->n == NAMES_MAX)
		return;
	uintptr_t libc = (uintptr_t)dlsym(RTLD_NEXT, text);
	if (libc == 0 || (uintptr_t)dlsym(names->handle, text) != libc)
		return;
	names->v[names->n++] = (struct name){
	    .text = text,
	    .ours = (uintptr_t)&__ehdr_start + symbol->st_value,
	    .libc = libc,
	};
}

/* All names that this library exports. The table is described at https://sourceware.org/gnu-gabi/program-loading-and-dynamic-linking.txt */
static void collect(struct names *names)
{
	struct dynamic d;
	read_dynamic(&d, (uintptr_t)&__ehdr_start, _DYNAMIC);
	if (!d.hash || !d.symbols || !d.strings)
		return;
	uint32_t buckets = d.hash[0];
	uint32_t first = d.hash[1];
	/* After the Bloom filter's words of 64 bits each. */
	const uint32_t *bucket = d.hash + 4 + (size_t)d.hash[2] * 2;
	const uint32_t *chain = bucket + buckets;
	for (uint32_t b = 0; b < buckets; b++) {
		uint32_t i = bucket[b];
		if (i < first)
			continue;
		note(names, &d, &d.symbols[i]);
		while (!(chain[i - first] & 1))
			note(names, &d, &d.symbols[++i]);
	}
}

static const struct name *find(const struct names *names, const char *text)
{
	for (size_t i = 0; i < names->n; i++) {
		if (strcmp(names->v[i].text, text) == 0)
			return &names->v[i];
	}
	return NULL;
}

struct object {
	uintptr_t base;
	uintptr_t begin; /* of its memory, and that of what is read-only once it is loaded */
	uintptr_t end;
	uintptr_t sealed_begin;
	uintptr_t sealed_end;
	const ElfW(Dyn) * section;
};

static void look(struct object *o, const struct dl_phdr_info *info)
{
	*o = (struct object){.base = info->dlpi_addr, .begin = UINTPTR_MAX};
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t begin = o->base + p->p_vaddr;
		uintptr_t end = begin + p->p_memsz;
		if (p->p_type == PT_DYNAMIC)
			o->section = (const ElfW(Dyn) *)begin;
		if (p->p_type == PT_LOAD && begin < o->begin)
			o->begin = begin;
		if (p->p_type == PT_LOAD && end > o->end)
			o->end = end;
		if (p->p_type == PT_GNU_RELRO) {
			o->sealed_begin = begin;
			o->sealed_end = end;
		}
	}
}

/* The first call by way of a lazy slot would put libc's function there: it goes by the object's own code until then. */
static void point(const struct object *o, const struct dynamic *d, const struct names *names,
		  const ElfW(Rela) * r)
{
	uint64_t type = ELF64_R_TYPE(r->r_info);
	const ElfW(Sym) *symbol = &d->symbols[ELF64_R_SYM(r->r_info)];
	if ((type != RELOC_WORD && type != RELOC_DATA && type != RELOC_SLOT) || r->r_addend != 0 ||
	    symbol->st_shndx != SHN_UNDEF)
		return;
	const struct name *name = find(names, d->strings + symbol->st_name);
	if (!name)
		return;
	uintptr_t *slot = (uintptr_t *)(o->base + r->r_offset);
	uintptr_t now = __atomic_load_n(slot, __ATOMIC_RELAXED);
	bool lazy = type == RELOC_SLOT && now >= o->begin && now < o->end;
	if (now == name->libc || lazy)
		__atomic_store_n(slot, name->ours, __ATOMIC_RELEASE);
}

static void redirect(const struct object *o, const struct names *names)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	/* Whole pages, as the dynamic linker seals them. */
	void *sealed = (void *)(o->sealed_begin & ~(page - 1));
	size_t len = (o->sealed_end & ~(page - 1)) - (uintptr_t)sealed;
	struct dynamic d;
	read_dynamic(&d, o->base, o->section);
	if (!d.symbols || !d.strings)
		return;
	if (len > 0 && mprotect(sealed, len, PROT_READ | PROT_WRITE) != 0)
		return;
	for (size_t t = 0; t < 2; t++) {
		for (size_t i = 0; d.relocs[t] && i < d.bytes[t] / sizeof(ElfW(Rela)); i++)
			point(o, &d, names, &d.relocs[t][i]);
	}
	if (len > 0)
		(void)mprotect(sealed, len, PROT_READ);
}

/* What an object that was loaded now brought follows it in the dynamic linker's list. */
struct walk {
	uintptr_t base;
	bool begun;
	const struct names *names;
};

static int visit(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct walk *w = arg;
	struct object o;
	(void)size;
	w->begun = w->begun || info->dlpi_addr == w->base;
	if (w->begun) {
		look(&o, info);
		if (o.section)
			redirect(&o, w->names);
	}
	return 0;
}

static int count_loaded(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	*(unsigned long long *)arg = info->dlpi_adds;
	return 1;
}

/* Objects that were ever loaded. */
static unsigned long long loaded(void)
{
	unsigned long long n = 0;
	(void)dl_iterate_phdr(count_loaded, &n);
	return n;
}

struct onward flat_dlopen_onward(const char *path, int mode)
{
	static opener real;
	struct link_map *map;
	if (__builtin_expect(!real, 0))
		*(void **)&real = dlsym(RTLD_NEXT, "dlopen");
	if (!(mode & RTLD_DEEPBIND) || !path)
		return (struct onward){.at = real};
	unsigned long long before = loaded();
	struct names names = {.handle = real(path, mode)};
	/* The RUNPATH of who called us may lead to it. */
	if (!names.handle)
		return (struct onward){.at = real};
	if (loaded() != before && dlinfo(names.handle, RTLD_DI_LINKMAP, &map) == 0) {
		struct walk w = {.base = map->l_addr, .names = &names};
		collect(&names);
		(void)dl_iterate_phdr(visit, &w);
	}
	return (struct onward){.handle = names.handle};
}
