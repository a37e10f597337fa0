//! How many requests commands take: what latency multiplies, and what providers charge for.

use crate::support::{Place, Site};

#[test]
fn one_file_of_twenty_thousand_comes_back_with_few_requests() {
    for place in Place::S3 {
        let site = Site::new(place);
        for folder in 0..50 {
            let folder_path = site.source().join(format!("d{folder:02}"));
            std::fs::create_dir(&folder_path).unwrap();
            for file in 0..400 {
                let text = format!("file {file} of folder {folder}\n");
                std::fs::write(folder_path.join(format!("f{file:03}")), text).unwrap();
            }
        }
        site.backs_up();
        let restore = site.restore("back").arg("--json").arg(site.source().join("d31/f207"));
        let report = restore.run().ok().json();
        let back = site.restored("back").join("d31/f207");
        assert_eq!(std::fs::read_to_string(back).unwrap(), "file 207 of folder 31\n");
        let calls = report["calls"].as_object().unwrap();
        let total: u64 = calls.values().map(|n| n.as_u64().unwrap()).sum();
        // vault.json, a listing, the record, the index, a node a level, the data. More files make the tree deeper, by a node
        // for each few hundred times as many, and take two reads more once the index is too long to be read whole:
        // vault/src/write/tests/many.rs. So a million take fewer than 12.
        assert!(total <= 8, "{place:?}: {calls:?}");
    }
}
