"""The agent's side of mirrors: where the data path's program (`nodeagent/mirrorfs`, in Rust) is."""
