//! Where spans go.

use std::env;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{
    ExporterBuildError, HttpExporterBuilderSet, SpanExporter, SpanExporterBuilder, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::client::Client;
use super::record::TRACER;

/// What says that there is a collector, the more exact one first.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// What gives the server another name in traces.
const SERVICE_NAMES: [&str; 2] = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"];

/// A collector that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The address asks for encryption, which is not there.
    #[error(
        "{variable}: {address:?} does not begin with http://; run a collector on this machine, which can send on by https"
    )]
    Scheme {
        /// The environment variable.
        variable: &'static str,
        /// What it says.
        address: String,
    },
    /// An environment variable is wrong.
    #[error("traces cannot be sent: {0}")]
    Build(#[from] ExporterBuildError),
    /// The last spans could not be sent.
    #[error("the last traces could not be sent: {0}")]
    End(#[from] OTelSdkError),
}

/// A collector of traces, to which every server of this process sends its spans.
#[derive(Debug)]
pub struct Collector(SdkTracerProvider);

impl Collector {
    /// The collector that OpenTelemetry's environment variables name (`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin), if they
    /// name one. Spans are sent from `runtime`, some at a time.
    ///
    /// # Errors
    /// What the variables say cannot be done.
    pub fn from_env(runtime: tokio::runtime::Handle) -> Result<Option<Self>, CollectorError> {
        let named =
            ENDPOINTS.into_iter().find_map(|name| Some((name, env::var(name).ok().filter(|it| !it.is_empty())?)));
        let is_off = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        let Some((variable, address)) = named.filter(|_| !is_off) else { return Ok(None) };
        if !address.starts_with("http://") {
            return Err(CollectorError::Scheme { variable, address });
        }
        tracing::info!(%address, "traces are sent");
        Self::start(SpanExporter::builder().with_http(), runtime).map(Some)
    }

    /// The collector that takes spans at `address`, whatever the environment says.
    ///
    /// # Errors
    /// It is no address.
    pub fn at(address: &str, runtime: tokio::runtime::Handle) -> Result<Self, CollectorError> {
        Self::start(SpanExporter::builder().with_http().with_endpoint(address), runtime)
    }

    fn start(
        exporter: SpanExporterBuilder<HttpExporterBuilderSet>,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, CollectorError> {
        let exporter = exporter.with_http_client(Client::new(runtime)).build()?;
        let mut resource = Resource::builder();
        if SERVICE_NAMES.iter().all(|name| env::var_os(name).is_none()) {
            resource = resource.with_service_name("drifting");
        }
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        // A process has one collector; the first one stays.
        let _ = TRACER.set(provider.tracer("drifting-serve"));
        Ok(Self(provider))
    }

    /// Sends what is left. Blocks, so it must not be called from the runtime.
    ///
    /// # Errors
    /// The collector does not take it.
    pub fn finish(self) -> Result<(), CollectorError> {
        Ok(self.0.shutdown()?)
    }
}
