/* A driver with templates and a queue of operations, which counts what it is asked for: for tests. No device is behind it. */
#define ALLOW_EXPERIMENTAL_API
#define NFV_FAKE_ITSELF
#include "flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fake_flow.h"

/* Operations wait here until they are pushed, then until they are pulled. */
enum { WAITING_MAX = 4096, ITEMS_SEEN = 8, SHAPE = 4096 };
enum kind { CREATE, DESTROY };

/* What a template fixes: types of items with their masks, or types of actions. */
struct shape {
	unsigned n;
	int types[ITEMS_SEEN];
};

struct rte_flow_pattern_template { struct shape shape; };
struct rte_flow_actions_template { struct shape shape; };
struct rte_flow_template_table {
	struct rte_flow_pattern_template *pattern;
	struct rte_flow_actions_template *actions;
	uint32_t most, rules, group;
};
struct rte_flow {
	struct rte_flow_template_table *table;
	uint32_t mark;
	int is_jump;
};

static struct nfv_fake_flow fake;
static struct waiting {
	enum kind kind;
	struct rte_flow *flow;
	void *user;
	int is_pushed;
} waiting[WAITING_MAX];
static uint32_t n_waiting, depth, completed;

struct nfv_fake_flow *nfv_fake_flow_reset(void)
{
	memset(&fake, 0, sizeof(fake));
	n_waiting = depth = completed = 0;
	return &fake;
}

static void *refuse(int why, struct rte_flow_error *error)
{
	rte_errno = why;
	if (error != NULL)
		error->message = NULL;
	return NULL;
}

int fake_rte_flow_info_get(struct rte_flow_port_info *port, struct rte_flow_queue_info *queue, struct rte_flow_error *error)
{
	if (fake.depth == 0)
		return -ENOTSUP;
	port->max_nb_queues = 1;
	port->max_nb_counters = 1000;
	queue->max_size = fake.depth;
	return 0;
}

int fake_rte_flow_configure(const struct rte_flow_port_attr *attr, uint16_t n, const struct rte_flow_queue_attr **queues,
			    struct rte_flow_error *error)
{
	if (n != 1 || queues[0]->size > fake.depth || attr->nb_counters > 1000)
		fake.mistakes++;
	depth = queues[0]->size;
	return 0;
}

static struct shape shape_of_items(const struct rte_flow_item *items)
{
	struct shape shape = { 0 };

	for (; items->type != RTE_FLOW_ITEM_TYPE_END && shape.n < ITEMS_SEEN; items++)
		shape.types[shape.n++] = items->type;
	return shape;
}

static struct shape shape_of_actions(const struct rte_flow_action *actions)
{
	struct shape shape = { 0 };

	for (; actions->type != RTE_FLOW_ACTION_TYPE_END && shape.n < ITEMS_SEEN; actions++)
		shape.types[shape.n++] = actions->type;
	return shape;
}

struct rte_flow_pattern_template *fake_rte_flow_pattern_template_create(
	const struct rte_flow_pattern_template_attr *attr, const struct rte_flow_item *items, struct rte_flow_error *error)
{
	struct rte_flow_pattern_template *made = calloc(1, sizeof(*made));

	made->shape = shape_of_items(items);
	fake.templates++;
	fake.mistakes += !attr->ingress;
	return made;
}

int fake_rte_flow_pattern_template_destroy(struct rte_flow_pattern_template *template, struct rte_flow_error *error)
{
	free(template);
	fake.templates--;
	return 0;
}

struct rte_flow_actions_template *fake_rte_flow_actions_template_create(
	const struct rte_flow_actions_template_attr *attr, const struct rte_flow_action *actions,
	const struct rte_flow_action *masks, struct rte_flow_error *error)
{
	struct rte_flow_actions_template *made = calloc(1, sizeof(*made));

	made->shape = shape_of_actions(actions);
	for (unsigned i = 0; i <= made->shape.n; i++)
		fake.mistakes += masks[i].type != actions[i].type;
	fake.templates++;
	fake.mistakes += !attr->ingress;
	return made;
}

int fake_rte_flow_actions_template_destroy(struct rte_flow_actions_template *template, struct rte_flow_error *error)
{
	free(template);
	fake.templates--;
	return 0;
}

struct rte_flow_template_table *fake_rte_flow_template_table_create(
	const struct rte_flow_template_table_attr *attr, struct rte_flow_pattern_template **patterns, uint8_t n_patterns,
	struct rte_flow_actions_template **actions, uint8_t n_actions, struct rte_flow_error *error)
{
	struct rte_flow_template_table *made;

	if (fake.tables_max != 0 && fake.tables >= fake.tables_max)
		return refuse(ENOMEM, error);
	made = calloc(1, sizeof(*made));
	*made = (struct rte_flow_template_table){ patterns[0], actions[0], attr->nb_flows, 0, attr->flow_attr.group };
	fake.mistakes += n_patterns != 1 || n_actions != 1 || !attr->flow_attr.ingress;
	fake.tables++;
	fake.tables_made++;
	return made;
}

int fake_rte_flow_template_table_destroy(struct rte_flow_template_table *table, struct rte_flow_error *error)
{
	if (table->rules != 0)
		return -EBUSY;
	free(table);
	fake.tables--;
	return 0;
}

static int enqueue(enum kind kind, struct rte_flow *flow, void *user)
{
	if (n_waiting >= depth) {
		fake.refused_full++;
		rte_errno = EAGAIN;
		return -EAGAIN;
	}
	waiting[n_waiting++] = (struct waiting){ kind, flow, user, 0 };
	if (n_waiting > fake.most_waiting)
		fake.most_waiting = n_waiting;
	return 0;
}

struct rte_flow *fake_rte_flow_async_create(uint32_t queue, const struct rte_flow_op_attr *attr,
					    struct rte_flow_template_table *table, const struct rte_flow_item *items,
					    uint8_t pattern, const struct rte_flow_action *actions, uint8_t action,
					    void *user, struct rte_flow_error *error)
{
	struct shape have_items = shape_of_items(items), have_actions = shape_of_actions(actions);
	struct rte_flow *made = calloc(1, sizeof(*made));

	made->table = table;
	fake.mistakes += queue != 0 || pattern != 0 || action != 0 || table->rules >= table->most;
	fake.mistakes += memcmp(&have_items, &table->pattern->shape, sizeof(have_items)) != 0;
	fake.mistakes += memcmp(&have_actions, &table->actions->shape, sizeof(have_actions)) != 0;
	for (; actions->type != RTE_FLOW_ACTION_TYPE_END; actions++) {
		if (actions->type == RTE_FLOW_ACTION_TYPE_MARK)
			made->mark = ((const struct rte_flow_action_mark *)actions->conf)->id;
		made->is_jump |= actions->type == RTE_FLOW_ACTION_TYPE_JUMP;
	}
	if (enqueue(CREATE, made, user) != 0) {
		free(made);
		return refuse(EAGAIN, error);
	}
	table->rules++;
	fake.creates++;
	return made;
}

int fake_rte_flow_async_destroy(uint32_t queue, const struct rte_flow_op_attr *attr, struct rte_flow *flow, void *user,
				struct rte_flow_error *error)
{
	int failed = enqueue(DESTROY, flow, user);

	fake.destroys += failed == 0;
	return failed;
}

int fake_rte_flow_push(uint32_t queue, struct rte_flow_error *error)
{
	fake.pushes++;
	for (uint32_t i = 0; i < n_waiting; i++)
		waiting[i].is_pushed = 1;
	return 0;
}

static void end(struct rte_flow *flow)
{
	flow->table->rules--;
	free(flow);
}

int fake_rte_flow_pull(uint32_t queue, struct rte_flow_op_result *results, uint16_t n, struct rte_flow_error *error)
{
	/* A few at a time, as hardware does. */
	uint16_t done = 0, most = n < 7 ? n : 7;

	fake.pulls++;
	while (done < most && done < n_waiting && waiting[done].is_pushed && !fake.is_dead) {
		struct waiting *op = &waiting[done];
		int fails = ++completed == fake.fails_at;

		results[done].user_data = op->user;
		results[done].status = fails ? RTE_FLOW_OP_ERROR : RTE_FLOW_OP_SUCCESS;
		if (op->kind == CREATE && fails) {
			end(op->flow);
		} else if (op->kind == CREATE) {
			if (fake.marks_n < RTE_DIM(fake.marks)) {
				fake.groups[fake.marks_n] = op->flow->table->group;
				fake.marks[fake.marks_n++] = op->flow->mark;
			}
			fake.rules++;
			fake.jumps += op->flow->is_jump;
		} else if (!fails) {
			fake.rules--;
			fake.jumps -= op->flow->is_jump;
			end(op->flow);
		}
		done++;
	}
	memmove(waiting, waiting + done, (n_waiting - done) * sizeof(waiting[0]));
	n_waiting -= done;
	return done;
}
