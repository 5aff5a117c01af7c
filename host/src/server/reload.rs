//! A new configuration takes the place of the running one, or changes nothing.
//!
//! Called at SIGHUP, when a file changed, and by the admin listener. Everything that can fail is
//! done before the swap; after it, nothing can.

use super::{Gateway, Origin, Running, lock};
use crate::compile;
use crate::config;
use crate::upstream::spawn_health;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const UNCHANGED: &str = "the running configuration is unchanged";

impl Gateway {
    /// Reloads the configuration with its plugins and certificates. Waits for a reload that is
    /// under way.
    ///
    /// # Errors
    /// What is wrong, rendered for people; nothing has changed then.
    pub async fn reload(self: &Arc<Self>) -> Result<String, String> {
        let _one = self.reloading.lock().await;
        let gateway = self.clone();
        let result = tokio::task::spawn_blocking(move || gateway.reload_now()).await;
        let result =
            result.unwrap_or_else(|error| Err(format!("the reload broke off: {error}; {UNCHANGED}")));
        match &result {
            Ok(done) => tracing::info!("reload ok {done}"),
            Err(why) => {
                self.workshop.metrics.reload_failed();
                tracing::error!("reload refused\n{why}");
            }
        }
        result
    }

    fn reload_now(&self) -> Result<String, String> {
        let Origin::File(path) = &self.origin else {
            return Err("this gateway was started without a configuration file".into());
        };
        let loaded = config::load(path).map_err(|report| report.render(&format!("; {UNCHANGED}")))?;
        let before = self.cell.load();
        self.workshop.services.verifiers.reload_files();
        let report = loaded.report();
        let tls = lock(&self.sockets).tls();
        let running = Some(compile::Running { snapshot: &before, tls: &tls });
        let compiled =
            compile::compile(&self.workshop, &loaded.config, loaded.folder.clone(), report, running)
                .map_err(|report| report.render(&format!("; {UNCHANGED}")))?;
        let change = lock(&self.sockets)
            .prepare(compiled.listeners, self.workers.count())
            .map_err(|why| format!("{why}; {UNCHANGED}"))?;

        if self.draining.load(Ordering::Relaxed) {
            return Err("the gateway is stopping".into());
        }
        let generation = compiled.snapshot.generation;
        self.cell.swap(compiled.snapshot);
        self.generations.send_replace(generation);
        for upstream in &self.cell.load().upstreams {
            if !before.upstreams.iter().any(|known| Arc::ptr_eq(known, upstream)) {
                spawn_health(upstream, &self.control);
            }
        }
        let drained = {
            let mut sockets = lock(&self.sockets);
            let drained = sockets.apply(change);
            sockets.serve(&self.workers);
            sockets.reload_certificates(self.workshop.clock.unix());
            drained
        };
        for control in drained {
            let limit = self.drain;
            self.control.spawn(async move { control.wait(limit).await });
        }
        *lock(&self.running) = Running {
            effective: config::effective(&loaded.config).to_string().into(),
            plugins: compiled.plugins,
            files: loaded.files,
            directory: loaded.config.plugins.directory.clone(),
        };
        if let Some(admin) = &loaded.config.admin {
            self.set_admin_token(admin);
        }
        self.workshop.metrics.reload_succeeded(generation);
        let waiting = self.fixed.waiting(&loaded.config);
        Ok(match waiting.is_empty() {
            true => format!("generation={generation}"),
            false => format!("generation={generation}; at the next start only: {}", waiting.join(", ")),
        })
    }
}
