//! GET with `watch`: the changes of a collection from a revision on, as lines of JSON.
//!
//! `open` decides under the lock where the stream begins; the stream then takes the lock for a moment at each change
//! of its table, and sleeps in between.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::Stream;
use futures::stream;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, Interval};

use super::Call;
use super::list::Selection;
use crate::server::{Shared, closed};
use crate::state::State;
use crate::status::{Answer, Status};
use crate::store::window::{Change, Event};
use crate::store::{GroupResource, Stored};
use crate::table::{View, encode};

/// How long a watch lives that does not say so itself; as in kube-apiserver, half an hour at least.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(40 * 60);

pub(crate) struct Watch {
    shared: Arc<Shared>,
    view: View,
    table: GroupResource,
    selection: Selection,
    position: u64,
    initial: Bytes,
    changed: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    bookmarks: Option<Interval>,
    deadline: Instant,
    ended: bool,
}

/// Why a sleeping watch woke up.
enum Wake {
    Changed,
    Bookmark,
    Deadline,
    TableClosed,
    ServerClosed,
}

/// Where a watch begins.
struct Start {
    position: u64,
    with_objects: bool,
    marks_end: bool,
}

/// Opens a watch. One whose beginning is lost begins all the same, and says so in its first event, as a watch of
/// kube-apiserver does: kube-rs lists again after such an event, and would try for ever after a status of 410.
pub(crate) fn open(call: &Call<'_>, state: &State, view: View, shared: &Arc<Shared>) -> Answer<Watch> {
    let table = call.resource.table();
    let opened = state.store.table(&table).ok_or_else(Status::no_such_resource)?;
    let selection = Selection::of(call)?;
    let start = start(call, state.store.revision())?;
    let mut initial = BytesMut::new();
    if start.with_objects {
        let now = call.now;
        for stored in opened.objects().values().filter(|s| selection.matches(s)) {
            line(&mut initial, "ADDED", &view.stored(stored, now));
        }
    }
    if start.marks_end {
        line(&mut initial, "BOOKMARK", &encode(&view.bookmark(start.position, true)));
    }
    let timeout =
        call.options.timeout_seconds.filter(|s| *s > 0).map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let every = shared.config.bookmark_interval;
    let bookmarks = call.options.bookmarks.then(|| tokio::time::interval_at(Instant::now() + every, every));
    Ok(Watch {
        shared: Arc::clone(shared),
        view,
        table,
        selection,
        position: start.position,
        initial: initial.freeze(),
        changed: opened.subscribe(),
        closing: shared.closing.subscribe(),
        bookmarks,
        deadline: Instant::now() + timeout,
        ended: false,
    })
}

fn too_old(asked: u64, oldest: u64) -> Status {
    Status::expired(format!("too old resource version: {asked} ({oldest})"))
}

fn start(call: &Call<'_>, current: u64) -> Answer<Start> {
    let (options, asked) = (call.options, call.options.resource_version);
    let matched = options.resource_version_match.as_deref();
    match (options.send_initial_events, matched) {
        (Some(_), Some("NotOlderThan")) | (None, None) => {}
        (Some(_), _) => {
            return Err(Status::bad_request(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        (None, Some(_)) => {
            return Err(Status::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
    }
    let from_now = |with_objects, marks_end| Start { position: current, with_objects, marks_end };
    Ok(match (options.send_initial_events, asked) {
        (Some(true), _) => from_now(true, options.bookmarks),
        (Some(false), None | Some(0)) => from_now(false, false),
        // Without a version a watch begins with everything that is there.
        (None, None | Some(0)) => from_now(true, false),
        (_, Some(position)) => Start { position, with_objects: false, marks_end: false },
    })
}

impl Watch {
    /// The body of the response.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
        stream::unfold(self, |mut watch| async move { watch.next().await.map(|chunk| (Ok(chunk), watch)) })
    }

    async fn next(&mut self) -> Option<Bytes> {
        if !self.initial.is_empty() {
            return Some(std::mem::take(&mut self.initial));
        }
        while !self.ended {
            let chunk = self.collect();
            if !chunk.is_empty() {
                return Some(chunk);
            }
            if let Some(bookmark) = self.wait().await {
                return Some(bookmark);
            }
        }
        None
    }

    /// Sleeps until something has changed, or a bookmark is due.
    async fn wait(&mut self) -> Option<Bytes> {
        match self.wake().await {
            Wake::Changed => None,
            Wake::Bookmark => Some(self.bookmark()),
            Wake::Deadline => {
                self.ended = true;
                self.bookmarks.is_some().then(|| self.bookmark())
            }
            Wake::TableClosed => {
                let last = self.collect();
                self.ended = true;
                (!last.is_empty()).then_some(last)
            }
            Wake::ServerClosed => {
                self.ended = true;
                None
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let tick = async {
            match &mut self.bookmarks {
                Some(interval) => drop(interval.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.changed.changed() => if changed.is_ok() { Wake::Changed } else { Wake::TableClosed },
            () = closed(&mut self.closing) => Wake::ServerClosed,
            () = tokio::time::sleep_until(self.deadline) => Wake::Deadline,
            () = tick => Wake::Bookmark,
        }
    }

    /// What happened since the last look, as lines; ends the watch where the window has moved past it.
    fn collect(&mut self) -> Bytes {
        let (now, mut out) = (self.shared.now(), BytesMut::new());
        let state = self.shared.lock();
        self.ended = state.store.table(&self.table).is_none();
        let Some(window) = state.store.window(&self.table) else { return Bytes::new() };
        // A revision of the future is of another history: that of a server that is gone.
        let known = self.position <= state.store.revision();
        match window.since(self.position).filter(|_| known) {
            Some(events) => {
                for event in events {
                    self.write(&mut out, event, now);
                }
                self.position = state.store.revision();
            }
            None => {
                self.ended = true;
                let gone = too_old(self.position, window.oldest());
                line(&mut out, "ERROR", &encode(&gone.to_value()));
            }
        }
        out.freeze()
    }

    /// An object that begins or ceases to match the selectors is added or deleted to its watchers.
    fn write(&self, out: &mut BytesMut, event: &Event, now: jiff::Timestamp) {
        let matched = event.before.as_ref().is_some_and(|before| self.selection.matches(before));
        let matches = event.change != Change::Deleted && self.selection.matches(&event.object);
        match (matched, matches) {
            (false, true) => line(out, "ADDED", &self.view.stored(&event.object, now)),
            (true, true) => line(out, "MODIFIED", &self.view.stored(&event.object, now)),
            (true, false) => line(out, "DELETED", &self.deleted(event, now)),
            (false, false) => {}
        }
    }

    /// The last state that matched, with the revision at which it ceased to.
    fn deleted(&self, event: &Event, now: jiff::Timestamp) -> Bytes {
        let last = match (&event.before, event.change) {
            (Some(before), Change::Modified) => before,
            _ => return self.view.stored(&event.object, now),
        };
        let mut object = last.decode();
        object["metadata"]["resourceVersion"] = json!(event.revision.to_string());
        let stored = Stored { revision: event.revision, bytes: encode(&object), ..Stored::clone(last) };
        self.view.stored(&stored, now)
    }

    fn bookmark(&self) -> Bytes {
        let mut out = BytesMut::new();
        line(&mut out, "BOOKMARK", &encode(&self.view.bookmark(self.position, false)));
        out.freeze()
    }
}

fn line(out: &mut BytesMut, kind: &str, object: &[u8]) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
}
