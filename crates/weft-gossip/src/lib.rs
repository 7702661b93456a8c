//! SWIM membership and NetworkDB tables as a state machine.
