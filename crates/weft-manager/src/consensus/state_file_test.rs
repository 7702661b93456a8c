//! Power loss while an image is written leaves the one before or the new one, whole.

use proptest::prelude::*;
use weft_wire::swarmkit::{Meta, Node, Version};

use super::super::simulated_disk::Platter;
use super::*;

fn open(disk: &Platter) -> StateFile {
    let database = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
    let (open, _) = tokio::sync::mpsc::channel(1);
    StateFile::start(database, Path::new("/disk/state.redb"), Arc::new(Sealer::new(&[3; 32], 1)), open)
        .unwrap()
}

/// Nodes `from..from + 30` at a version, each with a claim.
fn image(from: u32, index: u64) -> Image {
    let mut view = View::default();
    for number in from..from + 30 {
        let id = format!("node{number}");
        let meta = Meta { version: Some(Version { index }), ..Default::default() };
        view.claims_mut().insert(Claim::Vni(number), &id);
        view.put(Object::from(Node { id, meta: Some(meta), ..Default::default() }));
    }
    view.set_index(index);
    let leader_id = openraft::type_config::alias::LeaderIdOf::<RaftTypes> { term: 1, node_id: 1 };
    let applied = Applied { log_id: Some(LogId { leader_id, index }), membership: Membership::default() };
    Image { applied, view: Arc::new(view) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn an_interrupted_image_is_the_old_or_the_new_one(power in 0usize..40, kept: u64) {
        let disk = Platter::default();
        let file = open(&disk);
        let (old, new) = (image(0, 7), image(10, 9));
        file.write(&old).unwrap();
        disk.cut_power_after(power);
        let written = file.write(&new).is_ok();
        let found = open(&disk.after_crash(|write| kept >> (write % 64) & 1 == 1)).image();
        let expected = if found.view.index() == 9 { &new } else { &old };
        prop_assert!(!written || found.view.index() == 9, "a synced image was lost");
        prop_assert_eq!(&found.view, &expected.view);
        prop_assert_eq!(found.applied.log_id, expected.applied.log_id);
    }
}

#[test]
fn images_replace_each_other_row_by_row() {
    let disk = Platter::default();
    let file = open(&disk);
    for (from, index) in [(0, 7), (10, 9), (5, 12)] {
        file.write(&image(from, index)).unwrap();
    }
    drop(file);
    assert_eq!(open(&disk).image().view, image(5, 12).view);
}
