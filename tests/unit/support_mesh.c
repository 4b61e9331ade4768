#include "support_mesh.h"

#include <criterion/criterion.h>
#include <string.h>

#include "mesh/scope.h"

struct loaded load_yaml(const char *yaml)
{
	struct loaded l = {0};

	l.ret = flat_config_load_text("t.yaml", yaml, strlen(yaml), &l.mesh, &l.diags);
	flat_diags_text(&l.diags, &l.text);
	return l;
}

struct loaded load_good(const char *yaml)
{
	struct loaded l = load_yaml(yaml);

	cr_assert_eq(l.ret, 0, "refused: %s", loaded_text(&l));
	return l;
}

const char *loaded_text(const struct loaded *l)
{
	const char *text = flat_strbuf_str(&l->text);

	return text ? text : "(no memory)";
}

void loaded_fini(struct loaded *l)
{
	flat_mesh_put(l->mesh);
	flat_diags_fini(&l->diags);
	flat_strbuf_fini(&l->text);
}

const struct flat_virtual_service *virtual_for(const struct flat_mesh *mesh, const char *namespace,
					       struct flat_span host,
					       const struct flat_service *service)
{
	const struct flat_scope scope = {.mesh = mesh, .namespace = namespace};

	return flat_mesh_virtual_by_host(&scope, host, service);
}
