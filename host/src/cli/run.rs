//! `witgate run`: serves until it is told to stop.
//!
//! SIGHUP reloads and reopens the access log; SIGTERM and SIGINT drain and stop, a second one
//! stops at once.

use crate::config;
use crate::server::{Gateway, Origin};
use crate::telemetry::trace::{self, Format};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "witgate.yaml", conflicts_with = "to")]
    config: PathBuf,
    /// No configuration: pass everything to this URL
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Where to listen without a configuration
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080", requires = "to")]
    listen: SocketAddr,
    /// How the gateway's own log is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log: LogFormat,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let format = match arguments.log {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let log = match trace::init_queued(format) {
        Ok(log) => log,
        Err(why) => return super::fail(&why),
    };
    let code = match served(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // After what was logged, and like that without waiting for a reader that takes nothing.
            log.say(why.trim_end());
            ExitCode::FAILURE
        }
    };
    log.flush();
    code
}

/// # Errors
/// Why it could not start, or was cut short.
fn served(arguments: Arguments) -> Result<(), String> {
    // Where the allocator asks for huge pages, memory would come in pieces of 2 MiB of which little is
    // used: a third of what a gateway with twenty plugins takes. Without them nothing runs slower.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // Everything that builds TLS is given its provider; this is for what a library makes itself.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let origin = match &arguments.to {
        Some(to) => Origin::Given(Box::new(config::reverse_proxy(to, arguments.listen)?)),
        None => Origin::File(arguments.config),
    };
    // One thread would do for what the control runtime does, but a reload blocks one.
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let served = control.block_on(serve(origin));
    // A component may still be compiled: its process ends with this one.
    control.shutdown_background();
    served
}

async fn serve(origin: Origin) -> Result<(), String> {
    let signals = [SignalKind::hangup(), SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(mut hangup), Ok(mut terminate), Ok(mut interrupt)] = signals else {
        return Err("the operating system gives no signals".into());
    };
    // Where the kernel bounds files, a log that has grown that far is an error of the write and not the end.
    let _too_long = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()));
    let started = tokio::select! {
        started = tokio::spawn(Gateway::start(origin)) => started,
        _ = terminate.recv() => return Err("stopped before it served".into()),
        _ = interrupt.recv() => return Err("stopped before it served".into()),
    };
    let gateway = match started {
        Ok(Ok(gateway)) => gateway,
        Ok(Err(why)) => return Err(why),
        Err(error) => return Err(format!("the gateway cannot start: {error}")),
    };
    // In a task of its own: compiling takes its time, and a signal to stop must not wait for it.
    let asked = Arc::new(Notify::new());
    tokio::spawn(reload(gateway.clone(), asked.clone()));
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                gateway.reopen_logs();
                asked.notify_one();
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("stopping");
    let stopping = tokio::spawn(async move { gateway.stop().await });
    tokio::select! {
        _ = stopping => Ok(()),
        _ = terminate.recv() => Err("stopped at once".into()),
        _ = interrupt.recv() => Err("stopped at once".into()),
    }
}

/// Reloads as often as it is asked to, once more at most for whatever came while it did.
async fn reload(gateway: Arc<Gateway>, asked: Arc<Notify>) {
    loop {
        asked.notified().await;
        let _ = gateway.reload().await;
    }
}
