/*
 * Bun waits by a system call of its own (epoll_pwait2, written in assembler), which no hook sees: no socket of the mesh would ever
 * be ready. Where a feature flag of Bun's says so it calls epoll_pwait() instead, of libc. Bun before 1.4, written in Zig, has no
 * such flag and moves bytes by its own calls too (sendfile): its sockets stay the kernel's. What `bun build --compile` makes is
 * Bun as well, and has its version node. Sources: src/bun_core/env_var.rs and packages/bun-usockets/src/eventing/epoll_kqueue.c of
 * Bun 1.4; exports and traces of 1.2.0, 1.3.14, 1.4.0 and 1.4.5.
 */
#include <dlfcn.h>
#include <stdlib.h>

#include "program.h"

#define VERSION "BUN_1.2"
#define FLAG "BUN_FEATURE_FLAG_DISABLE_EPOLL_PWAIT2"

int flat_program_own_calls;

__attribute__((constructor)) static void look_at_program(void)
{
	if (!dlvsym(RTLD_DEFAULT, "napi_create_object", VERSION))
		return;
	/* It came with 1.4, as the flag did. */
	flat_program_own_calls = !dlvsym(RTLD_DEFAULT, "node_api_set_prototype", VERSION);
	(void)setenv(FLAG, "1", 1);
}
