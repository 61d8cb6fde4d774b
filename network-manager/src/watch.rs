//! One task for each resource: lists, watches, reports.

use std::{pin::pin, time::Duration};

use api::{Cluster, ClusterNode, NodeConfig};
use futures::StreamExt;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event, watcher},
};
use tokio::sync::mpsc;

use crate::{
    index::{News, Object, Resource},
    metrics::Metrics,
};

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Where a resource is served.
pub(crate) fn path(resource: Resource) -> ApiResource {
    match resource {
        Resource::Cluster => ApiResource::erase::<Cluster>(&()),
        Resource::ClusterNode => ApiResource::erase::<ClusterNode>(&()),
        Resource::NodeConfig => ApiResource::erase::<NodeConfig>(&()),
    }
}

/// Which of the watches of a resource, one after another, has news.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round(pub(crate) u64);

/// What a watch reports.
pub(crate) type Report = (Round, News);

/// One resource and the way to it.
pub(crate) struct Watch {
    pub(crate) client: Client,
    pub(crate) resource: Resource,
    pub(crate) round: Round,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) metrics: Metrics,
}

impl Watch {
    /// Watches until nobody listens any more.
    pub(crate) async fn run(self) {
        let mut failures = 0u32;
        loop {
            let Err(error) = self.follow(&mut failures).await else { return };
            self.metrics.watch_restarted(self.resource);
            let resource = self.resource;
            // A watch that ends now and then is how watches are; one that cannot be begun again is worth a word.
            match failures {
                0 => tracing::debug!(?resource, %error, "the watch ended"),
                _ => tracing::warn!(?resource, %error, "cannot be watched; trying again"),
            }
            let wait = FIRST_RETRY.saturating_mul(1 << failures.min(8)).min(LAST_RETRY);
            failures = failures.saturating_add(1);
            tokio::time::sleep(wait).await;
        }
    }

    /// Reports what comes until the watch must be begun anew. `Ok` when nobody listens any more.
    async fn follow(&self, failures: &mut u32) -> Result<(), watcher::Error> {
        let resource = self.resource;
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &path(resource));
        let mut events = pin!(watcher(api, watcher::Config::default()));
        let mut listing = Vec::new();
        while let Some(event) = events.next().await {
            let news = match event {
                Ok(Event::Init) => {
                    listing.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    listing.push(Object::parse(resource, object));
                    continue;
                }
                Ok(Event::InitDone) => {
                    *failures = 0;
                    News::Listed(resource, std::mem::take(&mut listing))
                }
                Ok(Event::Apply(object)) => News::Put(Object::parse(resource, object)),
                Ok(Event::Delete(object)) => News::Gone(resource, object.metadata.name.unwrap_or_default()),
                // An expired version is answered by listing again, at once and by itself.
                Err(watcher::Error::WatchError(status)) if status.code == 410 => {
                    self.metrics.watch_restarted(resource);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if self.reports.send((self.round, news)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}
