/* Names of the mesh in libc's calls that look names up: they are asked for the address that stands for one. */
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>

#include <flat/unstable/preload.h>

#define EXPORT __attribute__((visibility("default")))

#define REAL(ret, name, ...)                                                                       \
	static ret (*real)(__VA_ARGS__);                                                           \
	if (!real)                                                                                 \
	*(void **)&real = dlsym(RTLD_NEXT, #name)

EXPORT int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **res)
{
	REAL(int, getaddrinfo, const char *, const char *, const struct addrinfo *,
	     struct addrinfo **);
	char text[64];
	return real(flat_mesh_address(node, text) == 0 ? text : node, service, hints, res);
}

/* Names of the mesh are known at once. The others are handed on, in a list of their own: NULL is left out (getaddrinfo_a(3)). */
EXPORT int getaddrinfo_a(int mode, struct gaicb *list[], int n, struct sigevent *event)
{
	REAL(int, getaddrinfo_a, int, struct gaicb **, int, struct sigevent *);
	char text[64];
	if ((mode != GAI_WAIT && mode != GAI_NOWAIT) || n <= 0)
		return real(mode, list, n, event);
	struct gaicb **others = calloc((size_t)n, sizeof(struct gaicb *));
	if (!others)
		return EAI_MEMORY;
	for (int i = 0; i < n; i++) {
		struct gaicb *g = list[i];
		if (g && flat_mesh_address(g->ar_name, text) == 0)
			g->__return =
			    getaddrinfo(text, g->ar_service, g->ar_request, &g->ar_result);
		else
			others[i] = g;
	}
	int err = real(mode, others, n, event);
	/* libc is done with the list, but for the requests themselves. */
	int saved = errno;
	free(others);
	errno = saved;
	return err;
}

EXPORT struct hostent *gethostbyname(const char *name)
{
	REAL(struct hostent *, gethostbyname, const char *);
	char text[64];
	return real(flat_mesh_address(name, text) == 0 ? text : name);
}

EXPORT struct hostent *gethostbyname2(const char *name, int family)
{
	REAL(struct hostent *, gethostbyname2, const char *, int);
	char text[64];
	return real(flat_mesh_address(name, text) == 0 ? text : name, family);
}

EXPORT int gethostbyname_r(const char *name, struct hostent *ret, char *buf, size_t len,
			   struct hostent **result, int *err)
{
	REAL(int, gethostbyname_r, const char *, struct hostent *, char *, size_t,
	     struct hostent **, int *);
	char text[64];
	return real(flat_mesh_address(name, text) == 0 ? text : name, ret, buf, len, result, err);
}

EXPORT int gethostbyname2_r(const char *name, int family, struct hostent *ret, char *buf,
			    size_t len, struct hostent **result, int *err)
{
	REAL(int, gethostbyname2_r, const char *, int, struct hostent *, char *, size_t,
	     struct hostent **, int *);
	char text[64];
	return real(flat_mesh_address(name, text) == 0 ? text : name, family, ret, buf, len, result,
		    err);
}
