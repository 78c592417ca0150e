//! Runtime values: what the RuntimeLayers of a proxy set, merged into the one layer that every bootstrap asks for by RTDS.
//!
//! A bootstrap is written once; a layer of its own for each RuntimeLayer would leave out those that are declared later.
//!
//! *Invariant:* a proxy has exactly one layer; where two RuntimeLayers set a key, the more specific prevails.

use std::sync::Arc;

use model::Spec;
use serde_json::Value as Json;
use xds::Resource;
use xds::pb::envoy::service::runtime::v3::Runtime;

use crate::part::Part;
use crate::translate::pb;
use crate::unit::Reading;
use crate::{Proxy, class};

/// The name of the layer, in every bootstrap.
const LAYER: &str = "weft";

/// The runtime layer of a proxy; empty if no RuntimeLayer holds for it, because a proxy that asks waits for an answer.
pub(crate) fn layer(proxy: &Arc<Proxy>, read: &mut Reading<'_>) -> Part {
    let mut view = read.view();
    let labels = class::labels(proxy, &mut view);
    let mut layer = pb::Struct::default();
    for key in view.runtime_layers(&proxy.namespace, &labels) {
        if let Some(Spec::RuntimeLayer(spec)) = view.resource(&key).map(|resource| &resource.spec) {
            let values = spec.layer.iter();
            layer
                .fields
                .extend(values.map(|(key, value)| (key.clone(), to_value(value))));
        }
    }
    let runtime = Runtime {
        name: LAYER.into(),
        layer: Some(layer),
    };
    Part {
        resources: vec![Resource::new(&runtime)],
        ..Part::default()
    }
}

fn to_value(json: &Json) -> pb::Value {
    use pb::value::Kind;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Json::String(value) => Kind::StringValue(value.clone()),
        Json::Array(values) => Kind::ListValue(xds::pb::google::protobuf::ListValue {
            values: values.iter().map(to_value).collect(),
        }),
        Json::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), to_value(value)))
                .collect();
            Kind::StructValue(pb::Struct { fields })
        }
    };
    pb::Value { kind: Some(kind) }
}
