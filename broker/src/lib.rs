//! Sans-io decisions of a broker and of the controller
