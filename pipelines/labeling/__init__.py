"""Labels that do not come by themselves: from functions that vote, from people, from a model that is sure."""
