//! Injected faults, as the fault filter's configuration per route (`TranslateFault`).
//!
//! *Invariant:* a fault without a percentage strikes no request.

use model::spec::{FaultAbort, FaultDelay, GRPC_STATUS, HttpFaultInjection, Percent};
use pb::common_fault::fault_delay::FaultDelaySecifier;
use pb::fault::fault_abort::ErrorType;

use crate::translate::pb;

/// The configuration of the fault filter on this route; `None` when there is nothing it could do.
pub(super) fn fault(injection: &HttpFaultInjection) -> Option<pb::Any> {
    let delay = injection.delay.as_ref().and_then(delay);
    let abort = injection.abort.as_ref().and_then(abort);
    let any = delay.is_some() || abort.is_some();
    any.then(|| {
        pb::any(&pb::fault::HttpFault {
            delay,
            abort,
            ..Default::default()
        })
    })
}

fn delay(delay: &FaultDelay) -> Option<pb::common_fault::FaultDelay> {
    let fixed = pb::duration(*delay.fixed_delay?);
    Some(pb::common_fault::FaultDelay {
        percentage: Some(percentage(delay.percentage, delay.percent)),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(fixed)),
    })
}

fn abort(abort: &FaultAbort) -> Option<pb::fault::FaultAbort> {
    let grpc = abort.grpc_status.as_deref().and_then(grpc_status);
    let error = None
        .or_else(|| {
            abort
                .http_status
                .map(|status| ErrorType::HttpStatus(status.into()))
        })
        .or_else(|| grpc.map(ErrorType::GrpcStatus))?;
    Some(pb::fault::FaultAbort {
        percentage: Some(percentage(abort.percentage, None)),
        error_type: Some(error),
        ..Default::default()
    })
}

/// `percentage`, else the older `percent`.
fn percentage(exact: Option<Percent>, whole: Option<u32>) -> pb::FractionalPercent {
    pb::fraction(
        exact
            .map(|it| it.value)
            .or(whole.map(f64::from))
            .unwrap_or(0.0),
    )
}

/// The number of a gRPC status by its name.
pub(crate) fn grpc_status(name: &str) -> Option<u32> {
    let at = GRPC_STATUS.iter().position(|it| *it == name)?;
    u32::try_from(at).ok()
}
