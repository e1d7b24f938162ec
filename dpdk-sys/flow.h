/* What the files that build rte_flow's items and actions share. */
#include "wrapper.h"

enum { NFV_ITEMS_MAX = 5, NFV_ACTIONS_MAX = 4 };

/* Value, upper end and mask of a header; the upper end stays unused without a range. */
#define NFV_HEADER(type) struct { type spec, last, mask; }

struct nfv_built {
	struct rte_flow_attr attr;
	struct rte_flow_item items[NFV_ITEMS_MAX];
	struct rte_flow_action actions[NFV_ACTIONS_MAX];
	unsigned n_items, n_actions;
	NFV_HEADER(struct rte_flow_item_vlan) vlan;
	NFV_HEADER(struct rte_flow_item_ipv4) ipv4;
	NFV_HEADER(struct rte_flow_item_ipv6) ipv6;
	NFV_HEADER(struct rte_flow_item_tcp) tcp;
	NFV_HEADER(struct rte_flow_item_udp) udp;
	NFV_HEADER(struct rte_flow_item_sctp) sctp;
	NFV_HEADER(struct rte_flow_item_icmp) icmp;
	NFV_HEADER(struct rte_flow_item_icmp6) icmp6;
	struct rte_flow_action_mark mark;
	struct rte_flow_action_count count;
	struct rte_flow_action_queue queue;
	struct rte_flow_action_rss rss;
	struct rte_flow_action_jump jump;
	uint16_t queues[RTE_MAX_QUEUES_PER_PORT];
};

/* 0, or a negative errno value. */
int nfv_flow_build(struct nfv_built *b, const struct nfv_flow_rule *rule);
/* The driver's words, and errno's text where it has none; returns a negative errno value. */
int nfv_flow_say(int failed, const struct rte_flow_error *error, char *why, size_t room);
