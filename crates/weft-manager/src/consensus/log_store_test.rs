//! Power loss at every moment of a write: what was reported durable is there afterwards.

use openraft::EntryPayload;
use openraft::type_config::alias::LeaderIdOf;
use proptest::prelude::*;

use super::super::simulated_disk::Platter;
use super::super::types::Command;
use super::*;

fn open(disk: &Platter) -> LogStore {
    let database = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
    let sealer = Arc::new(Sealer::new(&[3; 32], 1));
    let (open, _) = mpsc::channel(1);
    LogStore::start(database, &files(), Path::new("/disk/log.redb"), sealer, open).unwrap()
}

fn files() -> Arc<dyn Disk> {
    Arc::new(super::super::Files)
}

fn entry(index: u64) -> Entry {
    let leader_id = LeaderIdOf::<RaftTypes> { term: 1, node_id: 1 };
    Entry {
        log_id: LogId { leader_id, index },
        payload: EntryPayload::Normal(Command(vec![index as u8; 200])),
    }
}

/// Writes entries one by one until the power goes. Gives the last index that was reported durable.
async fn write_until_dark(log: &mut LogStore, first: u64) -> Option<u64> {
    let mut durable = None;
    for index in first..first + 6 {
        let (done, wait) = <RaftTypes as openraft::type_config::TypeConfigExt>::oneshot();
        if log.append([entry(index)], IOFlushed::signal(done)).await.is_err() {
            break;
        }
        match wait.await {
            Ok(Ok(())) => durable = Some(index),
            _ => break,
        }
    }
    durable
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_was_reported_durable_survives_a_power_loss(power in 0usize..60, kept: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let disk = Platter::default();
            let mut log = open(&disk);
            write_until_dark(&mut log, 1).await;
            disk.cut_power_after(power);
            let durable = write_until_dark(&mut log, 7).await.unwrap_or(6);

            let survivor = disk.after_crash(|write| kept >> (write % 64) & 1 == 1);
            let mut reopened = open(&survivor);
            let entries = reopened.try_get_log_entries(0..).await.unwrap();
            let indexes: Vec<u64> = entries.iter().map(|entry| entry.log_id.index).collect();
            assert!(indexes.len() as u64 >= durable, "{durable} reported, {indexes:?} found");
            assert_eq!(indexes, (1..=indexes.len() as u64).collect::<Vec<_>>(), "a hole in the log");
            for found in &entries {
                assert_eq!(wire::encode_entry(found), wire::encode_entry(&entry(found.log_id.index)));
            }
        });
    }
}

#[tokio::test]
async fn vote_truncation_and_purge_survive() {
    let disk = Platter::default();
    let mut log = open(&disk);
    write_until_dark(&mut log, 1).await;
    let vote = Vote { leader_id: entry(1).log_id.leader_id, committed: true };
    log.save_vote(&vote).await.unwrap();
    log.truncate_after(Some(entry(5).log_id)).await.unwrap();
    log.purge(entry(2).log_id).await.unwrap();
    let survivor = disk.after_crash(|_| false);
    let mut reopened = open(&survivor);
    assert_eq!(reopened.read_vote().await.unwrap(), Some(vote));
    let state = reopened.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(entry(2).log_id));
    assert_eq!(state.last_log_id, Some(entry(5).log_id));
    assert_eq!(reopened.try_get_log_entries(0..).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_damaged_record_is_an_error_with_file_and_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.redb");
    let sealer = Arc::new(Sealer::new(&[3; 32], 1));
    let (sender, mut closed) = mpsc::channel(1);
    let mut log = LogStore::open(&path, &files(), Arc::clone(&sealer), sender).unwrap();
    write_until_dark(&mut log, 1).await;
    drop(log);
    closed.recv().await;
    let database = files().open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(LOG).unwrap();
        let mut record = table.get(3).unwrap().unwrap().value().to_vec();
        let last = record.len() - 1;
        record[last] ^= 1;
        table.insert(3, record.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let (sender, _) = mpsc::channel(1);
    let error = LogStore::open(&path, &files(), sealer, sender).err().unwrap().to_string();
    assert!(error.contains("log.redb: entry 3: byte 20: the record does not authenticate"), "{error}");
}
