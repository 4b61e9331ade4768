/* SPDX-License-Identifier: Apache-2.0 */
#include <flat/flat.h>

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

const char *flat_version(void)
{
	return STRING(FLAT_VERSION_MAJOR) "." STRING(FLAT_VERSION_MINOR) "." STRING(
	    FLAT_VERSION_PATCH);
}
