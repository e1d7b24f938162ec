/* From a flat rule to rte_flow's items and actions, which are built nowhere else. */
/* rte_flow_actions_update, of 23.07. */
#define ALLOW_EXPERIMENTAL_API
#include "flow.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <rte_byteorder.h>

enum { PROTOCOL_ICMP = 1, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PROTOCOL_ICMP6 = 58, PROTOCOL_SCTP = 132 };
/* An item without conditions has no mask either: drivers refuse an empty one. */
static struct rte_flow_item *add_item(struct nfv_built *b, enum rte_flow_item_type type, const void *spec, const void *mask)
{
	struct rte_flow_item *item = &b->items[b->n_items++];

	item->type = type;
	item->spec = spec;
	item->mask = mask;
	return item;
}

static void add_action(struct nfv_built *b, enum rte_flow_action_type type, const void *conf)
{
	b->actions[b->n_actions].type = type;
	b->actions[b->n_actions++].conf = conf;
}

static void set_bits(uint8_t *mask, unsigned bits)
{
	for (unsigned i = 0; i < bits; i++)
		mask[i / 8] |= (uint8_t)(0x80 >> (i % 8));
}

static void set_prefix(void *spec, void *mask, const uint8_t *address, unsigned bytes, unsigned bits)
{
	uint8_t *value = spec;

	set_bits(mask, bits);
	for (unsigned i = 0; i < bytes; i++)
		value[i] = address[i] & ((uint8_t *)mask)[i];
}

static void add_network(struct nfv_built *b, const struct nfv_flow_rule *rule)
{
	int any = rule->src_bits == 0 && rule->dst_bits == 0;

	if (rule->is_ipv6) {
		set_prefix(&b->ipv6.spec.hdr.src_addr, &b->ipv6.mask.hdr.src_addr, rule->src, 16, rule->src_bits);
		set_prefix(&b->ipv6.spec.hdr.dst_addr, &b->ipv6.mask.hdr.dst_addr, rule->dst, 16, rule->dst_bits);
		add_item(b, RTE_FLOW_ITEM_TYPE_IPV6, any ? NULL : &b->ipv6.spec, any ? NULL : &b->ipv6.mask);
	} else {
		set_prefix(&b->ipv4.spec.hdr.src_addr, &b->ipv4.mask.hdr.src_addr, rule->src, 4, rule->src_bits);
		set_prefix(&b->ipv4.spec.hdr.dst_addr, &b->ipv4.mask.hdr.dst_addr, rule->dst, 4, rule->dst_bits);
		add_item(b, RTE_FLOW_ITEM_TYPE_IPV4, any ? NULL : &b->ipv4.spec, any ? NULL : &b->ipv4.mask);
	}
}

/* Ports of TCP, UDP and SCTP stand in the same places. */
#define SET_PORTS(header, source, destination) do { \
	(header).spec.hdr.source = rte_cpu_to_be_16(rule->sport_first); \
	(header).last.hdr.source = rte_cpu_to_be_16(rule->sport_last); \
	(header).mask.hdr.source = rte_cpu_to_be_16(rule->sport_mask); \
	(header).spec.hdr.destination = rte_cpu_to_be_16(rule->dport_first); \
	(header).last.hdr.destination = rte_cpu_to_be_16(rule->dport_last); \
	(header).mask.hdr.destination = rte_cpu_to_be_16(rule->dport_mask); \
} while (0)

static int add_transport(struct nfv_built *b, const struct nfv_flow_rule *rule)
{
	int ranges = rule->sport_last > rule->sport_first || rule->dport_last > rule->dport_first;
	int any = rule->sport_mask == 0 && rule->dport_mask == 0;
	struct rte_flow_item *item;

	switch (rule->protocol) {
	case PROTOCOL_TCP:
		any = any && rule->flags_mask == 0;
		SET_PORTS(b->tcp, src_port, dst_port);
		b->tcp.spec.hdr.tcp_flags = rule->flags;
		b->tcp.last.hdr.tcp_flags = rule->flags;
		b->tcp.mask.hdr.tcp_flags = rule->flags_mask;
		item = add_item(b, RTE_FLOW_ITEM_TYPE_TCP, any ? NULL : &b->tcp.spec, any ? NULL : &b->tcp.mask);
		item->last = ranges ? &b->tcp.last : NULL;
		return 0;
	case PROTOCOL_UDP:
		SET_PORTS(b->udp, src_port, dst_port);
		item = add_item(b, RTE_FLOW_ITEM_TYPE_UDP, any ? NULL : &b->udp.spec, any ? NULL : &b->udp.mask);
		item->last = ranges ? &b->udp.last : NULL;
		return 0;
	case PROTOCOL_SCTP:
		SET_PORTS(b->sctp, src_port, dst_port);
		item = add_item(b, RTE_FLOW_ITEM_TYPE_SCTP, any ? NULL : &b->sctp.spec, any ? NULL : &b->sctp.mask);
		item->last = ranges ? &b->sctp.last : NULL;
		return 0;
	case PROTOCOL_ICMP:
		any = !rule->has_icmp_type;
		b->icmp.spec.hdr.icmp_type = rule->icmp_type;
		b->icmp.mask.hdr.icmp_type = rule->has_icmp_type ? 0xff : 0;
		add_item(b, RTE_FLOW_ITEM_TYPE_ICMP, any ? NULL : &b->icmp.spec, any ? NULL : &b->icmp.mask);
		return 0;
	case PROTOCOL_ICMP6:
		any = !rule->has_icmp_type;
		b->icmp6.spec.type = rule->icmp_type;
		b->icmp6.mask.type = rule->has_icmp_type ? 0xff : 0;
		add_item(b, RTE_FLOW_ITEM_TYPE_ICMP6, any ? NULL : &b->icmp6.spec, any ? NULL : &b->icmp6.mask);
		return 0;
	default:
		return -EINVAL;
	}
}

static int add_fate(struct nfv_built *b, const struct nfv_flow_rule *rule)
{
	if (rule->has_mark) {
		b->mark.id = rule->mark;
		add_action(b, RTE_FLOW_ACTION_TYPE_MARK, &b->mark);
	}
	if (rule->has_count)
		add_action(b, RTE_FLOW_ACTION_TYPE_COUNT, &b->count);
	switch (rule->fate) {
	case NFV_FLOW_DROP:
		add_action(b, RTE_FLOW_ACTION_TYPE_DROP, NULL);
		break;
	case NFV_FLOW_QUEUE:
		b->queue.index = rule->queue;
		add_action(b, RTE_FLOW_ACTION_TYPE_QUEUE, &b->queue);
		break;
	case NFV_FLOW_RSS:
		if (rule->rss_queues == 0 || rule->rss_queues > RTE_MAX_QUEUES_PER_PORT)
			return -EINVAL;
		for (uint16_t i = 0; i < rule->rss_queues; i++)
			b->queues[i] = rule->rss_list != NULL ? rule->rss_list[i] : i;
		b->rss.func = RTE_ETH_HASH_FUNCTION_DEFAULT;
		b->rss.types = rule->rss_types;
		b->rss.queue_num = rule->rss_queues;
		b->rss.queue = b->queues;
		add_action(b, RTE_FLOW_ACTION_TYPE_RSS, &b->rss);
		break;
	case NFV_FLOW_JUMP:
		b->jump.group = rule->group_to;
		add_action(b, RTE_FLOW_ACTION_TYPE_JUMP, &b->jump);
		break;
	case NFV_FLOW_PASSTHRU:
		add_action(b, RTE_FLOW_ACTION_TYPE_PASSTHRU, NULL);
		break;
	default:
		return -EINVAL;
	}
	add_action(b, RTE_FLOW_ACTION_TYPE_END, NULL);
	return 0;
}

int nfv_flow_build(struct nfv_built *b, const struct nfv_flow_rule *rule)
{
	int failed;

	memset(b, 0, sizeof(*b));
	b->attr.ingress = 1;
	b->attr.priority = rule->priority;
	add_item(b, RTE_FLOW_ITEM_TYPE_ETH, NULL, NULL);
	if (rule->vlan != NFV_FLOW_NO_VLAN) {
		b->vlan.spec.hdr.vlan_tci = rte_cpu_to_be_16(rule->vlan);
		b->vlan.mask.hdr.vlan_tci = rte_cpu_to_be_16(0x0fff);
		add_item(b, RTE_FLOW_ITEM_TYPE_VLAN, &b->vlan.spec, &b->vlan.mask);
	}
	if (rule->src_bits > (rule->is_ipv6 ? 128 : 32) || rule->dst_bits > (rule->is_ipv6 ? 128 : 32))
		return -EINVAL;
	add_network(b, rule);
	failed = add_transport(b, rule);
	if (failed != 0)
		return failed;
	add_item(b, RTE_FLOW_ITEM_TYPE_END, NULL, NULL);
	return add_fate(b, rule);
}

int nfv_flow_say(int failed, const struct rte_flow_error *error, char *why, size_t room)
{
	int errno_value = failed < 0 ? failed : rte_errno > 0 ? -rte_errno : -EIO;
	const char *text = rte_strerror(-errno_value);

	if (error != NULL && error->message != NULL)
		snprintf(why, room, "%s: %s", text, error->message);
	else
		snprintf(why, room, "%s", text);
	return errno_value;
}

int nfv_flow_validate(uint16_t port, const struct nfv_flow_rule *rule, char *why, size_t room)
{
	struct rte_flow_error error = { 0 };
	struct nfv_built b;
	int failed = nfv_flow_build(&b, rule);

	if (failed != 0)
		return nfv_flow_say(failed, NULL, why, room);
	failed = rte_flow_validate(port, &b.attr, b.items, b.actions, &error);
	return failed == 0 ? 0 : nfv_flow_say(failed, &error, why, room);
}

int nfv_flow_create(uint16_t port, const struct nfv_flow_rule *rule, struct rte_flow **made, char *why, size_t room)
{
	struct rte_flow_error error = { 0 };
	struct nfv_built b;
	int failed = nfv_flow_build(&b, rule);

	if (failed != 0)
		return nfv_flow_say(failed, NULL, why, room);
	*made = rte_flow_create(port, &b.attr, b.items, b.actions, &error);
	return *made != NULL ? 0 : nfv_flow_say(0, &error, why, room);
}

int nfv_flow_change(uint16_t port, struct rte_flow *flow, const struct nfv_flow_rule *rule, char *why, size_t room)
{
#if RTE_VERSION >= RTE_VERSION_NUM(23, 7, 0, 0)
	struct rte_flow_error error = { 0 };
	struct nfv_built b;
	int failed = nfv_flow_build(&b, rule);

	if (failed != 0)
		return nfv_flow_say(failed, NULL, why, room);
	failed = rte_flow_actions_update(port, flow, b.actions, &error);
	return failed == 0 ? 0 : nfv_flow_say(failed, &error, why, room);
#else
	return nfv_flow_say(-ENOTSUP, NULL, why, room);
#endif
}

int nfv_flow_destroy(uint16_t port, struct rte_flow *flow, char *why, size_t room)
{
	struct rte_flow_error error = { 0 };
	int failed = rte_flow_destroy(port, flow, &error);

	return failed == 0 ? 0 : nfv_flow_say(failed, &error, why, room);
}

int nfv_flow_flush(uint16_t port, char *why, size_t room)
{
	struct rte_flow_error error = { 0 };
	int failed = rte_flow_flush(port, &error);

	return failed == 0 ? 0 : nfv_flow_say(failed, &error, why, room);
}

int nfv_flow_hits(uint16_t port, struct rte_flow *flow, uint64_t *hits, char *why, size_t room)
{
	struct rte_flow_action count[] = { { .type = RTE_FLOW_ACTION_TYPE_COUNT }, { .type = RTE_FLOW_ACTION_TYPE_END } };
	struct rte_flow_query_count found = { 0 };
	struct rte_flow_error error = { 0 };
	int failed = rte_flow_query(port, flow, count, &found, &error);

	if (failed != 0)
		return nfv_flow_say(failed, &error, why, room);
	if (!found.hits_set)
		return nfv_flow_say(-ENOTSUP, NULL, why, room);
	*hits = found.hits;
	return 0;
}
