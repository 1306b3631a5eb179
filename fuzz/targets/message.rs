#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The same bytes from a client and from a server.
    api::fuzzing::envelope(data);
    transports::fuzzing::message(data);
});
