/* Words used everywhere: result checking, arithmetic on arrays and containers. */
#ifndef FLAT_BASE_BASE_H
#define FLAT_BASE_BASE_H

#include <stddef.h>
#include <stdint.h>

#define FLAT_MUST_CHECK __attribute__((warn_unused_result))
#define FLAT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define FLAT_COLD __attribute__((cold))
#define FLAT_NORETURN __attribute__((noreturn))

#define FLAT_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define FLAT_CONTAINER_OF(ptr, type, member)                                                       \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define flat_likely(x) __builtin_expect(!!(x), 1)
#define flat_unlikely(x) __builtin_expect(!!(x), 0)

#define FLAT_CACHELINE 64

/** Between two looks at what another processor is to change. */
static inline void flat_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

/** The smaller of two sizes. */
static inline size_t flat_min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/** The larger of two sizes. */
static inline size_t flat_max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

/** `value` rounded up to a multiple of `align`, a power of two. The caller excludes overflow. */
static inline size_t flat_align_up(size_t value, size_t align)
{
	return (value + align - 1) & ~(align - 1);
}

#endif
