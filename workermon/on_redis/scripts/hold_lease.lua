-- Take a lease, or extend it. Returns 1 if `owner` holds it now, 0 if another owner does.
local lease        = KEYS[1] -- string: the owner
local owner        = ARGV[1]
local milliseconds = ARGV[2]

return hold(lease, owner, milliseconds) and 1 or 0
