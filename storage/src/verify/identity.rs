//! Checks of the objects that say which database this is, and where its manifests are: `CAIRN` and, in a bucket, `boundary`.

use super::chain::is_remote;
use super::{Depth, Finding, FindingStatus, Findings};
use crate::database::Database;
use crate::database::boundary::{BOUNDARY_PATH, Boundary};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ManifestNumber;
use crate::manifest::identity::{IDENTITY_PATH, read_identity};
use crate::manifest::store::manifest_path;

/// What names the database.
pub(super) async fn check(database: &Database, depth: Depth, findings: &mut Findings) {
    findings.push(Finding::new(IDENTITY_PATH, "checksum and id", identity(database).await));
    if is_remote(database) && depth == Depth::Deep {
        boundary(database, findings).await;
    }
}

async fn identity(database: &Database) -> Result<String> {
    let found = read_identity(&*database.shared.store).await?;
    let found =
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "it is not there; 32 bytes were written"))?;
    if found != database.id() {
        let why = format!("it names database {found}, manifests and log belong to {}", database.id());
        return Err(Error::corrupt(IDENTITY_PATH, why));
    }
    Ok(format!("database {found}, 32 bytes"))
}

/// The numbers in it are of manifests that are there. An older copy of it costs a longer search, and nothing else.
async fn boundary(database: &Database, findings: &mut Findings) {
    let check = "checksum and numbers";
    let known = match Boundary::read(&*database.shared.store).await {
        Ok(Some((known, _))) => known,
        Ok(None) => {
            let mut finding = Finding::new(BOUNDARY_PATH, check, Ok("it is not there".to_owned()));
            if database.snapshot().state().manifest > ManifestNumber(0) {
                finding.status = FindingStatus::Warning;
                "the newest manifest is looked for by a listing; the next checkpoint makes it again"
                    .clone_into(&mut finding.hint);
            }
            findings.push(finding);
            return;
        }
        Err(error) => {
            findings.push(Finding::new(BOUNDARY_PATH, check, Err(error)));
            return;
        }
    };
    let checked = match known.check_id(database.id()) {
        Ok(()) => Ok(format!("manifests {} to {}, 44 bytes", known.oldest, known.newest)),
        Err(error) => Err(error),
    };
    findings.push(Finding::new(BOUNDARY_PATH, check, checked));
    let number = known.known();
    if let Err(error) = database.manifests.read(number).await
        && error.kind() == ErrorKind::NotFound
        // It may have passed that manifest meanwhile.
        && matches!(Boundary::read(&*database.shared.store).await, Ok(Some((now, _))) if now == known)
    {
        let why = "it is not there, and boundary names it: newer ones may be missing too";
        let error = Error::new(ErrorKind::NotFound, why);
        findings.push(Finding::new(manifest_path(number), "checksums and rules", Err(error)));
    }
}
