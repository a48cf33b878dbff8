//! A manifest as a disk may return it: any bytes are a manifest or damage, and what is read writes back the same.

#![no_main]

use std::path::Path;

use columba_engine::tree::manifest::{Manifest, check_image};
use columba_fuzz::seal_manifest;
use libfuzzer_sys::fuzz_target;

fn check(image: &[u8]) {
    let decoded = Manifest::decode(Path::new("(image)"), image);
    assert_eq!(decoded.is_ok(), check_image(image).is_ok());
    if let Ok(manifest) = decoded {
        let again = Manifest::decode(Path::new("(image)"), &manifest.encode()).expect("what we encoded is a manifest");
        assert_eq!(again, manifest);
    }
}

fuzz_target!(|input: &[u8]| {
    check(input);
    let mut sealed = input.to_vec();
    seal_manifest(&mut sealed);
    check(&sealed);
    if check_image(input).is_ok() {
        assert_eq!(sealed, input, "sealing changes what was whole: it looks at nothing");
    }
});
