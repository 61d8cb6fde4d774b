//! Removing what was installed: everything of ours, in the reverse of the order in which it came, and nothing else.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
};

use crate::{
    connect::Role,
    manifest::{self, CREDENTIAL, NAMESPACE, Settings},
    object::{KINDS, Kind, Name, POD, absent_as_none, is_workload, kind, rank, said},
    steps::Steps,
    wait::{self, Reached, WaitArgs},
    write::{CLUSTERLINK, PART_OF, Writer, is_ours, is_shared, kind_of, live_with_types},
};

/// What a side's installation is made of, as it is there now, in the order in which it was created.
pub(crate) struct Installation {
    pub(crate) objects: Vec<DynamicObject>,
    /// Namespaces and definitions that somebody else had made before.
    pub(crate) foreign: Vec<Name>,
}

/// Reads what is installed of a side.
///
/// `alone` says that nothing of the other side is in this cluster: then whatever bears our label is this side's, also
/// what an older version has left. Where both are in one cluster, the manifest says what is whose.
pub(crate) async fn installed(client: &Client, role: Role, alone: bool) -> anyhow::Result<Installation> {
    let keep: BTreeSet<(Name, Option<String>)> = if alone {
        BTreeSet::new()
    } else {
        identities(&manifest::render(other(role), &Settings::default())?)
    };
    let mut found: Vec<DynamicObject> = Vec::new();
    for object in manifest::render(role, &Settings::default())?.into_iter().chain(extra(role)) {
        if !keep.contains(&identity(&object))
            && let Some(live) = live(client, &object).await?
        {
            found.push(live);
        }
    }
    if alone {
        let known = identities(&found);
        let labelled = labelled(client).await?;
        found.extend(labelled.into_iter().filter(|object| !known.contains(&identity(object))));
    }
    found.sort_by_key(rank);
    let is_foreign = |object: &DynamicObject| Kind::of(object).is_some_and(is_shared) && !is_ours(object);
    let (foreign, objects): (Vec<DynamicObject>, Vec<DynamicObject>) =
        found.into_iter().partition(is_foreign);
    Ok(Installation { objects, foreign: foreign.iter().map(Name::of).collect() })
}

fn other(role: Role) -> Role {
    match role {
        Role::Control => Role::Member,
        Role::Member => Role::Control,
    }
}

fn identity(object: &DynamicObject) -> (Name, Option<String>) {
    (Name::of(object), object.namespace())
}

fn identities(objects: &[DynamicObject]) -> BTreeSet<(Name, Option<String>)> {
    objects.iter().map(identity).collect()
}

/// What comes about beside the manifests: the credential, and the leases that our programs make.
fn extra(role: Role) -> Vec<DynamicObject> {
    let object = |kind: &str, name: &str| Kind::named(kind).map(|kind| kind.object(Some(NAMESPACE), name));
    let objects = match role {
        Role::Control => vec![object("Lease", "clusterlink-network-manager")],
        Role::Member => vec![object("Lease", "clusterlink-controller-manager"), object("Secret", CREDENTIAL)],
    };
    objects.into_iter().flatten().collect()
}

async fn live(client: &Client, object: &DynamicObject) -> anyhow::Result<Option<DynamicObject>> {
    let api = kind_of(object)?.api(client, object.namespace().as_deref());
    let live = absent_as_none(api.get(&object.name_any()).await);
    let live = live.map_err(|error| anyhow::anyhow!("read {}: {}", Name::of(object), said(&error)))?;
    Ok(live.map(|live| live_with_types(live, object)))
}

/// Everything that bears our label.
async fn labelled(client: &Client) -> anyhow::Result<Vec<DynamicObject>> {
    let ours = ListParams::default().labels(&format!("{PART_OF}={CLUSTERLINK}"));
    let mut found = Vec::new();
    for kind in KINDS {
        let list = absent_as_none(kind.api(client, None).list(&ours).await);
        let list = list.map_err(|error| anyhow::anyhow!("list {}: {}", kind.plural, said(&error)))?;
        let typed = kind.object(None, "");
        found.extend(list.into_iter().flat_map(|list| list.items).map(|live| live_with_types(live, &typed)));
    }
    Ok(found)
}

/// Deletes an installation: what runs first, and the rest when it runs no more.
pub(crate) async fn remove(
    steps: &mut Steps<'_>,
    writer: &Writer,
    installation: Installation,
    args: &WaitArgs,
) -> anyhow::Result<()> {
    let (workloads, rest): (Vec<DynamicObject>, Vec<DynamicObject>) =
        installation.objects.into_iter().rev().partition(is_workload);
    delete_all(steps, writer, &workloads).await?;
    if !workloads.is_empty() && args.wait && !writer.dry_run.is_dry() {
        wait::until(steps, args.timeout, || pods_are_gone(&writer.client, &workloads)).await?;
    }
    for object in rest {
        let kept = if object.types.as_ref().is_some_and(|types| types.kind == "Namespace") {
            foreign_content(&writer.client, &object.name_any()).await.map_err(|error| steps.failed(error))?
        } else {
            None
        };
        match kept {
            Some(what) => {
                steps.note(format_args!("{} is kept: {what} in it is not ours", Name::of(&object)))?
            }
            None => delete_all(steps, writer, &[object]).await?,
        }
    }
    for name in installation.foreign {
        steps.note(format_args!("{name} is kept: it was there before ClusterLink"))?;
    }
    Ok(())
}

/// Waits until what was deleted is really gone: a namespace takes its time.
pub(crate) async fn settle(
    steps: &mut Steps<'_>,
    writer: &Writer,
    role: Role,
    alone: bool,
    args: &WaitArgs,
) -> anyhow::Result<()> {
    if !args.wait || writer.dry_run.is_dry() {
        return Ok(());
    }
    let client = &writer.client;
    wait::until(steps, args.timeout, || async move {
        let left = installed(client, role, alone).await;
        // A namespace that is kept for what others have in it is not on its way.
        let left = left.map(|left| {
            let going =
                left.objects.into_iter().filter(|object| object.metadata.deletion_timestamp.is_some());
            going.map(|object| Name::of(&object)).collect::<Vec<_>>()
        });
        Ok(match left {
            Err(error) => Reached::NotYet(error.to_string()),
            Ok(left) => match left.first() {
                None => Reached::Yes("all of it is gone".to_owned()),
                Some(first) => Reached::NotYet(format!("{first} is being deleted")),
            },
        })
    })
    .await
}

async fn delete_all(steps: &mut Steps<'_>, writer: &Writer, objects: &[DynamicObject]) -> anyhow::Result<()> {
    for object in objects.iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
        let deleted = writer.delete_live(object).await;
        steps.settle(writer, Name::of(object), deleted)?;
    }
    Ok(())
}

async fn pods_are_gone(client: &Client, workloads: &[DynamicObject]) -> Result<Reached, kube::Error> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let mut left = Vec::new();
    for workload in workloads {
        let labels =
            workload.data["spec"]["selector"]["matchLabels"].as_object().cloned().unwrap_or_default();
        let labels: Vec<String> = labels
            .iter()
            .filter_map(|(key, value)| value.as_str().map(|value| format!("{key}={value}")))
            .collect();
        let running = pods.list(&ListParams::default().labels(&labels.join(","))).await?;
        left.extend(running.into_iter().map(|pod| pod.name_any()));
    }
    Ok(match left.first() {
        None => Reached::Yes("its pods have ended".to_owned()),
        Some(first) => Reached::NotYet(format!("{} pods are ending, such as {first}", left.len())),
    })
}

/// Something in a namespace of ours that is not ours, nor what every namespace has.
async fn foreign_content(client: &Client, namespace: &str) -> anyhow::Result<Option<String>> {
    let own = [
        "kube-root-ca.crt",
        "default",
        CREDENTIAL,
        "clusterlink-network-manager",
        "clusterlink-controller-manager",
    ];
    let contents = KINDS.iter().filter(|kind| kind.namespaced).copied().chain(OF_PEOPLE);
    for kind in contents {
        let list = absent_as_none(kind.api(client, Some(namespace)).list(&ListParams::default()).await);
        let list =
            list.map_err(|error| anyhow::anyhow!("list {} in {namespace}: {}", kind.plural, said(&error)))?;
        let foreign = list.into_iter().flat_map(|list| list.items).find(|object| {
            let owned = !object.owner_references().is_empty();
            !is_ours(object)
                && !owned
                && !own.contains(&object.name_any().as_str())
                && object.metadata.deletion_timestamp.is_none()
        });
        if let Some(object) = foreign {
            return Ok(Some(format!("{}/{}", kind.spelled(), object.name_any())));
        }
    }
    Ok(None)
}

/// What people put into namespaces, beside what we write ourselves.
const OF_PEOPLE: [Kind; 4] = [
    POD,
    kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    kind("apps", "v1", "StatefulSet", "statefulsets", true),
    kind("batch", "v1", "Job", "jobs", true),
];

/// Deletes the Events that our programs published on our own resources; `about` says on which.
pub(crate) async fn events(
    steps: &mut Steps<'_>,
    writer: &Writer,
    about: impl Fn(&str, &str) -> bool,
) -> anyhow::Result<()> {
    let events: Api<Event> = Api::namespaced(writer.client.clone(), "default");
    let ours = ListParams::default().fields("involvedObject.apiVersion=kosmos.io/v1alpha1");
    let list = events.list(&ours).await.map_err(|error| steps.failed(said(&error)))?;
    let mut count = 0;
    for event in list {
        let object = &event.involved_object;
        let (kind, name) = (object.kind.clone().unwrap_or_default(), object.name.clone().unwrap_or_default());
        if about(&kind, &name) && !writer.dry_run.is_dry() {
            match events.delete(&event.name_any(), &Default::default()).await {
                Err(error) if crate::object::is_absent(&error) => {}
                deleted => drop(deleted.map_err(|error| steps.failed(said(&error)))?),
            }
            count += 1;
        }
    }
    if count > 0 {
        steps.note(format_args!("{count} events on them deleted"))?;
    }
    Ok(())
}
