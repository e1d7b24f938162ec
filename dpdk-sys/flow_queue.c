/* Rules by templates and a queue of operations, which some drivers take many times faster than one by one. */
#define ALLOW_EXPERIMENTAL_API
#include "flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef NFV_FAKE_FLOW
#include "fake_flow.h"
#endif

/* The one queue: rules are given by the control side alone. */
enum { QUEUE = 0, DEPTH = 1024 };

struct nfv_flow_table {
	struct rte_flow_pattern_template *pattern;
	struct rte_flow_actions_template *actions;
	struct rte_flow_template_table *table;
};

int nfv_flow_queue_open(uint16_t port, uint32_t *depth, char *why, size_t room)
{
	struct rte_flow_error error = { 0 };
	struct rte_flow_port_info port_info = { 0 };
	struct rte_flow_queue_info queue_info = { 0 };
	struct rte_flow_port_attr port_attr = { 0 };
	struct rte_flow_queue_attr queue_attr = { .size = DEPTH };
	const struct rte_flow_queue_attr *queues[] = { &queue_attr };
	int failed = rte_flow_info_get(port, &port_info, &queue_info, &error);

	if (failed != 0)
		return nfv_flow_say(failed, &error, why, room);
	if (port_info.max_nb_queues == 0)
		return nfv_flow_say(-ENOTSUP, NULL, why, room);
	if (queue_info.max_size != 0 && queue_info.max_size < queue_attr.size)
		queue_attr.size = queue_info.max_size;
	/* Counters are had when they are asked for here. */
	port_attr.nb_counters = port_info.max_nb_counters < (1 << 16) ? port_info.max_nb_counters : 1 << 16;
	failed = rte_flow_configure(port, &port_attr, 1, queues, &error);
	if (failed != 0)
		return nfv_flow_say(failed, &error, why, room);
	*depth = queue_attr.size;
	return 0;
}

/* Each rule has its own mark and queue; what else is done is the table's. */
static void mask_actions(const struct nfv_built *b, struct rte_flow_action *masks)
{
	for (unsigned i = 0; i < b->n_actions; i++) {
		masks[i] = b->actions[i];
		if (b->actions[i].type == RTE_FLOW_ACTION_TYPE_MARK || b->actions[i].type == RTE_FLOW_ACTION_TYPE_QUEUE)
			masks[i].conf = NULL;
	}
}

int nfv_flow_table_destroy(uint16_t port, struct nfv_flow_table *table, char *why, size_t room)
{
	struct rte_flow_error error = { 0 };
	int failed = 0;

	if (table->table != NULL)
		failed = rte_flow_template_table_destroy(port, table->table, &error);
	if (failed != 0)
		return nfv_flow_say(failed, &error, why, room);
	if (table->actions != NULL)
		rte_flow_actions_template_destroy(port, table->actions, &error);
	if (table->pattern != NULL)
		rte_flow_pattern_template_destroy(port, table->pattern, &error);
	free(table);
	return 0;
}

int nfv_flow_table_create(uint16_t port, const struct nfv_flow_rule *shape, uint32_t group, uint32_t rules,
			  struct nfv_flow_table **made, char *why, size_t room)
{
	const struct rte_flow_pattern_template_attr pattern_attr = { .ingress = 1 };
	const struct rte_flow_actions_template_attr actions_attr = { .ingress = 1 };
	struct rte_flow_template_table_attr table_attr = { .nb_flows = rules };
	struct rte_flow_action masks[NFV_ACTIONS_MAX] = { 0 };
	struct rte_flow_error error = { 0 };
	struct nfv_flow_table *table;
	struct nfv_built b;
	int failed = nfv_flow_build(&b, shape);

	if (failed != 0)
		return nfv_flow_say(failed, NULL, why, room);
	table = calloc(1, sizeof(*table));
	if (table == NULL)
		return nfv_flow_say(-ENOMEM, NULL, why, room);
	mask_actions(&b, masks);
	table_attr.flow_attr = b.attr;
	table_attr.flow_attr.group = group;
	table->pattern = rte_flow_pattern_template_create(port, &pattern_attr, b.items, &error);
	if (table->pattern != NULL)
		table->actions = rte_flow_actions_template_create(port, &actions_attr, b.actions, masks, &error);
	if (table->actions != NULL)
		table->table = rte_flow_template_table_create(port, &table_attr, &table->pattern, 1, &table->actions, 1, &error);
	if (table->table == NULL) {
		failed = nfv_flow_say(0, &error, why, room);
		nfv_flow_table_destroy(port, table, NULL, 0);
		return failed;
	}
	*made = table;
	return 0;
}

/* A full queue has several names. */
static int full_or(int failed)
{
	return failed == -ENOSPC || failed == -ENOBUFS || failed == -ENOMEM ? -EAGAIN : failed;
}

int nfv_flow_enqueue_create(uint16_t port, struct nfv_flow_table *table, const struct nfv_flow_rule *rule,
			    uint64_t operation, struct rte_flow **made, char *why, size_t room)
{
	const struct rte_flow_op_attr later = { .postpone = 1 };
	struct rte_flow_error error = { 0 };
	struct nfv_built b;
	int failed = nfv_flow_build(&b, rule);

	if (failed != 0)
		return nfv_flow_say(failed, NULL, why, room);
	*made = rte_flow_async_create(port, QUEUE, &later, table->table, b.items, 0, b.actions, 0,
				      (void *)(uintptr_t)operation, &error);
	return *made != NULL ? 0 : full_or(nfv_flow_say(0, &error, why, room));
}

int nfv_flow_enqueue_destroy(uint16_t port, struct rte_flow *flow, uint64_t operation, char *why, size_t room)
{
	const struct rte_flow_op_attr later = { .postpone = 1 };
	struct rte_flow_error error = { 0 };
	int failed = rte_flow_async_destroy(port, QUEUE, &later, flow, (void *)(uintptr_t)operation, &error);

	return failed == 0 ? 0 : full_or(nfv_flow_say(failed, &error, why, room));
}

int nfv_flow_push(uint16_t port, char *why, size_t room)
{
	struct rte_flow_error error = { 0 };
	int failed = rte_flow_push(port, QUEUE, &error);

	return failed == 0 ? 0 : nfv_flow_say(failed, &error, why, room);
}

int nfv_flow_pull(uint16_t port, struct nfv_flow_done *done, uint16_t n, char *why, size_t room)
{
	enum { MOST = 64 };
	struct rte_flow_op_result results[MOST];
	struct rte_flow_error error = { 0 };
	int had = rte_flow_pull(port, QUEUE, results, n < MOST ? n : MOST, &error);

	if (had < 0)
		return nfv_flow_say(had, &error, why, room);
	for (int i = 0; i < had; i++) {
		done[i].operation = (uint64_t)(uintptr_t)results[i].user_data;
		done[i].failed = results[i].status != RTE_FLOW_OP_SUCCESS;
	}
	return had;
}
