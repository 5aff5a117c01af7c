//! Consumers, products and subscriptions as the directory that policies ask.

use crate::config::Report;
use crate::config::model::{At, Config};
use crate::consumer::{Consumer, Directory, Product, ProductQuota, Subscription};
use crate::state::Counters;
use std::sync::Arc;

pub fn compile(config: &Config, counters: &Counters, report: &mut Report) -> Option<Directory> {
    let products = config.products.iter().map(|product| Product {
        name: product.name.as_str().into(),
        apis: product.apis.iter().map(|api| api.as_str().into()).collect(),
        quota: product.quota.map(|quota| ProductQuota { requests: quota.requests, per: quota.per }),
    });
    let consumers = config.consumers.iter().map(|consumer| Consumer {
        name: consumer.name.as_str().into(),
        subscriptions: consumer
            .subscriptions
            .iter()
            .map(|subscription| Subscription {
                product: subscription.product.as_str().into(),
                keys: subscription.keys.clone(),
                suspended: subscription.suspended,
                expires_unix: subscription.expires,
            })
            .collect(),
    });
    match Directory::new(products.collect(), consumers.collect(), counters) {
        Ok(directory) => Some(directory),
        Err(error) => {
            let somewhere = || At { file: Arc::from(""), line: 1, column: 1, path: "consumers".into() };
            let at = config.consumers.first().map_or_else(somewhere, |consumer| consumer.at.clone());
            super::refuse(report, &at, error.to_string());
            None
        }
    }
}
