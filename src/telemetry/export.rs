//! The export of spans. The SDK keeps its failures to itself, so they are watched here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_otlp::{ExporterBuildError, SpanExporter as OtlpExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// Why spans can't be exported. Its text names the variable and never its value: a URL may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A variable of OpenTelemetry has a value that can't be used.
    #[error("the value of {0} can't be used")]
    Setting(String),
    /// The HTTP client can't be made.
    #[error("{0}")]
    Client(String),
}

impl From<ExporterBuildError> for ExportError {
    fn from(error: ExporterBuildError) -> Self {
        match error {
            // NAME: what is wrong, and that quotes the value.
            ExporterBuildError::InvalidConfiguration(text) => {
                let name = text.split_once(':').map_or("OTEL_*", |(name, _)| name);
                Self::Setting(name.to_owned())
            }
            ExporterBuildError::InternalFailure(text) => Self::Client(text),
        }
    }
}

/// The exporter that the standard `OTEL_*` variables describe, which it reads itself.
pub(super) fn exporter() -> Result<Watched<OtlpExporter>, ExportError> {
    let exporter = OtlpExporter::builder().with_http().build()?;
    Ok(Watched {
        exporter,
        trouble: Mutex::new(None),
    })
}

/// Logs when an export fails for another reason than the one before, and when one succeeds again. Not each failure: under
/// load there are several in a second.
#[derive(Debug)]
pub(super) struct Watched<E> {
    exporter: E,
    /// Why the last export failed.
    trouble: Mutex<Option<String>>,
}

impl<E> Watched<E> {
    fn report(&self, outcome: &OTelSdkResult) {
        // The text of such an error is a status code or the kind of the failure; no URL, header or answer is in it.
        let now = outcome.as_ref().err().map(ToString::to_string);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *trouble == now {
            return;
        }
        if let Some(cause) = &now {
            tracing::warn!(%cause, "spans can't be exported, and are lost");
        } else {
            tracing::info!("spans are exported again");
        }
        *trouble = now;
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        self.report(&outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
