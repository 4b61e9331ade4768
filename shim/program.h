/* What a program is: one that is about to be started, whether it will have the library; this one, whether it can be in the mesh. */
#ifndef FLAT_SHIM_PROGRAM_H
#define FLAT_SHIM_PROGRAM_H

/**
 * 1: the dynamic loader will look at LD_PRELOAD; 0: a static program, one for another machine, set-user-id; -1: no
 * program that could be read, whose exec will most likely fail. search: `file` without a slash is looked for in PATH.
 */
int flat_program_preloads(const char *file, int search);

/** Whether this program moves the bytes of its sockets by system calls that no hook sees. Set before main(). */
extern int flat_program_own_calls;

#endif
