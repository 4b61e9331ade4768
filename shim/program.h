/* What a program is that is about to be started: whether it will have the library. */
#ifndef FLAT_SHIM_PROGRAM_H
#define FLAT_SHIM_PROGRAM_H

/**
 * 1: the dynamic loader will look at LD_PRELOAD; 0: a static program, one for another machine, set-user-id; -1: no
 * program that could be read, whose exec will most likely fail. search: `file` without a slash is looked for in PATH.
 */
int flat_program_preloads(const char *file, int search);

#endif
