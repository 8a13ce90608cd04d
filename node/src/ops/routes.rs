//! What each path answers.

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rafka_model::limits::{OPS_BODY_BYTES_MAX, OPS_REQUEST_MS_MAX};
use serde_json::json;

use super::Shown;
use super::health::Report;
use crate::config::LogLevel;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PATHS: &str = "/metrics /livez /readyz /startupz /status /loglevel";

pub(super) fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(|| async { format!("{PATHS}\n") }))
        .route("/metrics", get(metrics))
        .route("/livez", get(|State(shown): State<Shown>| async move { probe(shown.health.live()) }))
        .route("/readyz", get(|State(shown): State<Shown>| async move { probe(shown.health.ready()) }))
        .route("/startupz", get(|State(shown): State<Shown>| async move { probe(shown.health.startup()) }))
        .route("/status", get(|State(shown): State<Shown>| async move { Json((shown.status)()) }))
        .route("/loglevel", get(level).put(set_level))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "no such path", &format!("there are: {PATHS}")) })
        .layer(DefaultBodyLimit::max(OPS_BODY_BYTES_MAX))
        .layer(from_fn(within_time))
        .with_state(shown)
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(Duration::from_millis(OPS_REQUEST_MS_MAX), next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "no answer in time", "the node is overloaded; try again"),
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    // Off the async threads: with many partitions the text is long.
    match tokio::task::spawn_blocking(move || shown.metrics.encode()).await {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be gathered", "see the node's log"),
    }
}

fn probe(report: Report) -> Response {
    let status = if report.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn level(State(shown): State<Shown>) -> Response {
    match &shown.level {
        Some(handle) => Json(json!({ "level": handle.current().as_str() })).into_response(),
        None => no_level(),
    }
}

/// The body is the level: `info`, `debug`, `info,rafka_node=trace`.
async fn set_level(State(shown): State<Shown>, body: String) -> Response {
    let Some(handle) = &shown.level else { return no_level() };
    let set = body.trim().parse::<LogLevel>().and_then(|level| {
        let before = handle.current();
        handle.set(&level).map_err(|error| error.to_string())?;
        tracing::info!(%before, now = %level, "log level changed");
        Ok(level)
    });
    match set {
        Ok(level) => Json(json!({ "level": level.as_str() })).into_response(),
        Err(error) => {
            refuse(StatusCode::BAD_REQUEST, &error, "send a level as the body, such as debug or info,rafka_node=debug")
        }
    }
}

fn no_level() -> Response {
    refuse(StatusCode::NOT_FOUND, "this node does not own the log level", "several nodes share the process")
}

fn refuse(status: StatusCode, error: &str, hint: &str) -> Response {
    (status, Json(json!({ "error": error, "hint": hint }))).into_response()
}
