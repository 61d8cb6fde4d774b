//! The volumes of a pod: directories on its machine, filled and kept as the API has them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{HostPathVolumeSource, KeyToPath, Pod, Volume, VolumeProjection};

use super::environment::{Referred, Whereabouts, field};
use crate::machines::machine::Machine;

/// Directories of a machine that are its own; all else of a `hostPath` is the host's.
const OWN: [&str; 5] = ["/var", "/run", "/etc", "/opt", "/tmp"];
/// What files have that nobody says a mode of.
const MODE: i32 = 0o644;

/// Files by their path below the volume, with their modes.
pub(super) type Content = BTreeMap<String, (Vec<u8>, u32)>;

/// A token that a volume asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TokenRequested {
    pub(super) audience: Option<String>,
    pub(super) seconds: i64,
}

/// The tokens that the volumes of a pod ask for.
pub(super) fn tokens(pod: &Pod) -> Vec<TokenRequested> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = volumes.filter_map(|volume| volume.projected.as_ref()?.sources.as_ref()).flatten();
    sources.filter_map(|source| source.service_account_token.as_ref().map(requested)).collect()
}

fn requested(token: &k8s_openapi::api::core::v1::ServiceAccountTokenProjection) -> TokenRequested {
    TokenRequested { audience: token.audience.clone(), seconds: token.expiration_seconds.unwrap_or(3600) }
}

/// What volumes are filled with.
pub(super) struct Sources<'a> {
    pub(super) pod: &'a Pod,
    pub(super) referred: &'a Referred,
    pub(super) tokens: &'a BTreeMap<TokenRequested, String>,
    pub(super) whereabouts: &'a Whereabouts,
}

impl Sources<'_> {
    /// What is in a volume that has content; `None` for one that is a plain directory.
    pub(super) fn content(&self, volume: &Volume) -> Result<Option<Content>, String> {
        let mut content = Content::new();
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.clone().unwrap_or_default();
            let items = Items {
                items: secret.items.as_deref(),
                mode: secret.default_mode,
                optional: secret.optional,
            };
            self.secret(&name, &items, &mut content)?;
        } else if let Some(map) = &volume.config_map {
            let items = Items { items: map.items.as_deref(), mode: map.default_mode, optional: map.optional };
            self.config_map(&map.name, &items, &mut content)?;
        } else if let Some(projected) = &volume.projected {
            for source in projected.sources.iter().flatten() {
                self.projection(source, projected.default_mode, &mut content)?;
            }
        } else {
            return Ok(None);
        }
        Ok(Some(content))
    }

    fn secret(&self, name: &str, items: &Items<'_>, content: &mut Content) -> Result<(), String> {
        let data = self.referred.secrets.get(name).map(|secret| {
            let data = secret.data.iter().flatten();
            data.map(|(key, bytes)| (key.clone(), bytes.0.clone())).collect()
        });
        items.take(&format!("Secret {name:?}"), data, content)
    }

    fn config_map(&self, name: &str, items: &Items<'_>, content: &mut Content) -> Result<(), String> {
        let data = self.referred.config_maps.get(name).map(|map| {
            let text = map.data.iter().flatten().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
            let binary = map.binary_data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone()));
            text.chain(binary).collect()
        });
        items.take(&format!("ConfigMap {name:?}"), data, content)
    }

    fn projection(
        &self,
        source: &VolumeProjection,
        mode: Option<i32>,
        content: &mut Content,
    ) -> Result<(), String> {
        if let Some(token) = &source.service_account_token {
            let text = self.tokens.get(&requested(token)).ok_or("its token is not there")?;
            content.insert(token.path.clone(), (text.clone().into_bytes(), bits(mode)));
        }
        if let Some(map) = &source.config_map {
            let items = Items { items: map.items.as_deref(), mode, optional: map.optional };
            self.config_map(&map.name, &items, content)?;
        }
        if let Some(secret) = &source.secret {
            let items = Items { items: secret.items.as_deref(), mode, optional: secret.optional };
            self.secret(&secret.name, &items, content)?;
        }
        for item in source.downward_api.iter().flat_map(|downward| downward.items.iter().flatten()) {
            let path = item.field_ref.as_ref().map(|field| field.field_path.as_str()).unwrap_or_default();
            let text = field(self.pod, path, self.whereabouts)?;
            content.insert(item.path.clone(), (text.into_bytes(), bits(item.mode.or(mode))));
        }
        Ok(())
    }
}

fn bits(mode: Option<i32>) -> u32 {
    u32::try_from(mode.unwrap_or(MODE)).unwrap_or_default() & 0o777
}

/// Which keys of an object a volume shows.
struct Items<'a> {
    items: Option<&'a [KeyToPath]>,
    mode: Option<i32>,
    optional: Option<bool>,
}

impl Items<'_> {
    fn take(
        &self,
        what: &str,
        data: Option<BTreeMap<String, Vec<u8>>>,
        content: &mut Content,
    ) -> Result<(), String> {
        let optional = self.optional == Some(true);
        let data = match data {
            Some(data) => data,
            None if optional => return Ok(()),
            None => return Err(format!("{what} is not there")),
        };
        let Some(items) = self.items else {
            content.extend(data.into_iter().map(|(key, bytes)| (key, (bytes, bits(self.mode)))));
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(bytes) => {
                    content.insert(item.path.clone(), (bytes.clone(), bits(item.mode.or(self.mode))));
                }
                None if optional => {}
                None => return Err(format!("{what} has no key {:?}", item.key)),
            }
        }
        Ok(())
    }
}

/// Who owns the files.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owner {
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
}

/// Writes a volume's content as kubelets do: into a new directory, to which the link `..data` then points, so that a reader
/// sees all of the old files or all of the new. Nothing is done where nothing changed.
pub(super) fn write(directory: &Path, content: &Content, owner: Owner) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let data = directory.join("..data");
    let current = fs::read_link(&data).ok();
    if let Some(current) = &current
        && same(&directory.join(current), content)
    {
        return Ok(());
    }
    let number: u64 =
        current.as_ref().and_then(|name| name.to_str()?.strip_prefix("..")?.parse().ok()).unwrap_or(0);
    let name = format!("..{}", number + 1);
    let fresh = directory.join(&name);
    fs::create_dir_all(&fresh)?;
    for (path, (bytes, mode)) in content {
        let file = fresh.join(path);
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&file, bytes)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
        chown(&file, owner.user, owner.group)?;
    }
    let link = directory.join("..data_tmp");
    symlink(&name, &link)?;
    fs::rename(&link, &data)?;
    for path in content.keys() {
        let first = path.split('/').next().unwrap_or(path);
        let visible = directory.join(first);
        if fs::symlink_metadata(&visible).is_err() {
            symlink(Path::new("..data").join(first), &visible)?;
        }
    }
    current.map_or(Ok(()), |old| fs::remove_dir_all(directory.join(old)))?;
    remove_dangling(directory)
}

/// Links to what is in the content no longer.
fn remove_dangling(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_symlink() && !path.exists() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn same(directory: &Path, content: &Content) -> bool {
    let there =
        |path: &String, bytes: &Vec<u8>| fs::read(directory.join(path)).is_ok_and(|text| text == *bytes);
    files_below(directory) == content.len() && content.iter().all(|(path, (bytes, _))| there(path, bytes))
}

fn files_below(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}

/// What a `hostPath` is on this machine, made where its type says so.
pub(super) fn host_path(machine: &Machine, source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let own = OWN.iter().any(|own| Path::new(&source.path).starts_with(own));
    let path = match own {
        true => machine.directory.join(source.path.trim_start_matches('/')),
        false => PathBuf::from(&source.path),
    };
    let wrong = |error: io::Error| format!("hostPath {}: {error}", source.path);
    match source.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" => fs::create_dir_all(&path).map_err(wrong)?,
        "FileOrCreate" => {
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(wrong)?;
            fs::OpenOptions::new().create(true).append(true).open(&path).map(drop).map_err(wrong)?;
        }
        "Directory" if !path.is_dir() => return Err(format!("hostPath {} is no directory", source.path)),
        "File" if !path.is_file() => return Err(format!("hostPath {} is no file", source.path)),
        "" if !path.exists() => fs::create_dir_all(&path).map_err(wrong)?,
        _ => {}
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn content(text: &str) -> Content {
        Content::from([("kubeconfig".to_owned(), (text.as_bytes().to_vec(), 0o440))])
    }

    #[test]
    fn a_reader_of_a_volume_sees_the_new_content_at_the_same_path() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("control");
        for text in ["one", "one", "two"] {
            write(&volume, &content(text), Owner::default()).unwrap();
            assert_eq!(fs::read_to_string(volume.join("kubeconfig")).unwrap(), text);
        }
        let mode = fs::metadata(volume.join("kubeconfig")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o440);
        assert_eq!(fs::read_link(volume.join("..data")).unwrap(), Path::new("..2"));
        assert!(!volume.join("..1").exists(), "the old content is left");
    }

    #[test]
    fn a_key_that_is_gone_is_gone_from_the_volume() {
        let directory = tempfile::tempdir().unwrap();
        let both = Content::from(["a", "b/c"].map(|key| (key.to_owned(), (b"x".to_vec(), 0o440))));
        write(directory.path(), &both, Owner::default()).unwrap();
        assert!(directory.path().join("b/c").is_file());
        let one = Content::from([("a".to_owned(), (b"x".to_vec(), 0o440))]);
        write(directory.path(), &one, Owner::default()).unwrap();
        assert!(directory.path().join("a").is_file() && !directory.path().join("b").is_symlink());
    }

    #[test]
    fn a_projected_volume_is_made_of_all_its_sources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "system"},
            "spec": {"containers": [], "volumes": [{"name": "access", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}}]},
        }))
        .unwrap();
        let map = serde_json::from_value(json!({"data": {"ca.crt": "CERT", "other": "x"}})).unwrap();
        let referred = Referred {
            config_maps: BTreeMap::from([("kube-root-ca.crt".to_owned(), map)]),
            ..Referred::default()
        };
        let asked = tokens(&pod);
        assert_eq!(asked, [TokenRequested { audience: None, seconds: 3607 }]);
        let tokens = BTreeMap::from([(asked[0].clone(), "TOKEN".to_owned())]);
        let whereabouts = Whereabouts::default();
        let sources = Sources { pod: &pod, referred: &referred, tokens: &tokens, whereabouts: &whereabouts };
        let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
        let content = sources.content(volume).unwrap().unwrap();
        let texts: Vec<(&str, &[u8])> =
            content.iter().map(|(k, (v, _))| (k.as_str(), v.as_slice())).collect();
        assert_eq!(texts, [("ca.crt", &b"CERT"[..]), ("namespace", b"system"), ("token", b"TOKEN")]);
        let nothing = Sources { referred: &Referred::default(), ..sources };
        assert!(nothing.content(volume).unwrap_err().contains("kube-root-ca.crt"));
    }
}
