/*
 * libflat: what every public header needs.
 */
#ifndef FLAT_FLAT_H
#define FLAT_FLAT_H

#ifdef __cplusplus
#define FLAT_BEGIN_DECLS extern "C" {
#define FLAT_END_DECLS }
#else
#define FLAT_BEGIN_DECLS
#define FLAT_END_DECLS
#endif

/** Marks what libflat.so exports. */
#define FLAT_API __attribute__((visibility("default")))

#define FLAT_VERSION_MAJOR 0
#define FLAT_VERSION_MINOR 1
#define FLAT_VERSION_PATCH 0

FLAT_BEGIN_DECLS

/** The library's version, "major.minor.patch". Static. */
FLAT_API const char *flat_version(void);

FLAT_END_DECLS

#endif
