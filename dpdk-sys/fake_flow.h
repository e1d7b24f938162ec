/* The calls of flow_queue.c, of a port that is not there: for tests. */
#define FAKE(call, port, ...) ((port) == NFV_FAKE_PORT ? fake_##call(__VA_ARGS__) : call((port), __VA_ARGS__))

int fake_rte_flow_info_get(struct rte_flow_port_info *, struct rte_flow_queue_info *, struct rte_flow_error *);
int fake_rte_flow_configure(const struct rte_flow_port_attr *, uint16_t, const struct rte_flow_queue_attr **,
			    struct rte_flow_error *);
struct rte_flow_pattern_template *fake_rte_flow_pattern_template_create(
	const struct rte_flow_pattern_template_attr *, const struct rte_flow_item *, struct rte_flow_error *);
int fake_rte_flow_pattern_template_destroy(struct rte_flow_pattern_template *, struct rte_flow_error *);
struct rte_flow_actions_template *fake_rte_flow_actions_template_create(
	const struct rte_flow_actions_template_attr *, const struct rte_flow_action *, const struct rte_flow_action *,
	struct rte_flow_error *);
int fake_rte_flow_actions_template_destroy(struct rte_flow_actions_template *, struct rte_flow_error *);
struct rte_flow_template_table *fake_rte_flow_template_table_create(
	const struct rte_flow_template_table_attr *, struct rte_flow_pattern_template **, uint8_t,
	struct rte_flow_actions_template **, uint8_t, struct rte_flow_error *);
int fake_rte_flow_template_table_destroy(struct rte_flow_template_table *, struct rte_flow_error *);
struct rte_flow *fake_rte_flow_async_create(uint32_t, const struct rte_flow_op_attr *, struct rte_flow_template_table *,
					    const struct rte_flow_item *, uint8_t, const struct rte_flow_action *, uint8_t,
					    void *, struct rte_flow_error *);
int fake_rte_flow_async_destroy(uint32_t, const struct rte_flow_op_attr *, struct rte_flow *, void *,
				struct rte_flow_error *);
int fake_rte_flow_push(uint32_t, struct rte_flow_error *);
int fake_rte_flow_pull(uint32_t, struct rte_flow_op_result *, uint16_t, struct rte_flow_error *);

#ifndef NFV_FAKE_ITSELF
#define rte_flow_info_get(port, ...) FAKE(rte_flow_info_get, port, __VA_ARGS__)
#define rte_flow_configure(port, ...) FAKE(rte_flow_configure, port, __VA_ARGS__)
#define rte_flow_pattern_template_create(port, ...) FAKE(rte_flow_pattern_template_create, port, __VA_ARGS__)
#define rte_flow_pattern_template_destroy(port, ...) FAKE(rte_flow_pattern_template_destroy, port, __VA_ARGS__)
#define rte_flow_actions_template_create(port, ...) FAKE(rte_flow_actions_template_create, port, __VA_ARGS__)
#define rte_flow_actions_template_destroy(port, ...) FAKE(rte_flow_actions_template_destroy, port, __VA_ARGS__)
#define rte_flow_template_table_create(port, ...) FAKE(rte_flow_template_table_create, port, __VA_ARGS__)
#define rte_flow_template_table_destroy(port, ...) FAKE(rte_flow_template_table_destroy, port, __VA_ARGS__)
#define rte_flow_async_create(port, ...) FAKE(rte_flow_async_create, port, __VA_ARGS__)
#define rte_flow_async_destroy(port, ...) FAKE(rte_flow_async_destroy, port, __VA_ARGS__)
#define rte_flow_push(port, ...) FAKE(rte_flow_push, port, __VA_ARGS__)
#define rte_flow_pull(port, ...) FAKE(rte_flow_pull, port, __VA_ARGS__)
#endif
