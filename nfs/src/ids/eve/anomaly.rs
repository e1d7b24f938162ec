//! Something odd.

use super::json::Object;
use crate::ids::app::Protocol;
use crate::ids::app::event::Event as AppEvent;
use crate::ids::stream::Event as StreamEvent;

/// Something odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Who remarked it.
    pub layer: Layer,
    /// What: `pkt_invalid_ack`, `invalid_banner`, `ipv4.trunc_pkt`. Records have `stream.` or `decoder.` before the first and
    /// the last.
    pub event: &'static str,
    /// Of an application: what the flow speaks.
    pub app: Option<Protocol>,
}

/// Who remarks it: `type`, and `layer` of applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// What reads headers.
    Decode,
    /// What follows connections.
    Stream,
    /// What finds out which application a flow is of.
    Detection,
    /// An application's parser.
    Parser,
}

impl Anomaly {
    /// Of a segment.
    pub fn of_stream(event: StreamEvent) -> Self {
        Self { layer: Layer::Stream, event: event.name(), app: None }
    }

    /// Of what a flow's application said.
    pub fn of_app(event: AppEvent, app: Option<Protocol>) -> Self {
        let layer = match event.protocol() {
            None => Layer::Detection,
            Some(_) => Layer::Parser,
        };
        Self { layer, event: event.name(), app: app.or(event.protocol()) }
    }

    /// Of a packet's headers: `remark` as in [`crate::ids::detect::Packet::remarks`].
    pub fn of_headers(remark: &'static str) -> Self {
        Self { layer: Layer::Decode, event: remark, app: None }
    }
}

impl Anomaly {
    pub(super) fn write(self, o: &mut Object<'_>) {
        o.object("anomaly", |o| {
            let (kind, prefix, layer) = match self.layer {
                Layer::Decode => ("decode", "decoder.", None),
                Layer::Stream => ("stream", "stream.", None),
                Layer::Detection => ("applayer", "", Some("proto_detect")),
                Layer::Parser => ("applayer", "", Some("proto_parser")),
            };
            if let Some(app) = self.app {
                o.string("app_proto", app.name());
            }
            o.string("type", kind);
            o.string("event", &format!("{prefix}{}", self.event));
            if let Some(layer) = layer {
                o.string("layer", layer);
            }
        });
    }
}
