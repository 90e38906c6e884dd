"""HVM: guests that do not know they are guests, and the small real PC around them."""
