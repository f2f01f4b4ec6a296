! One step after the other, each by itself under the clock: what step_latency.py times from Fortran.
subroutine loop(step_address, network, x, h, c, workspace, spent, count) bind(c)
    use, intrinsic :: iso_c_binding
    implicit none
    type(c_funptr), value :: step_address
    type(c_ptr), value :: network, x, h, c, workspace
    integer(c_int64_t), value :: count
    integer(c_int64_t), intent(out) :: spent(count)
    abstract interface
        integer(c_int) function lstm_step_s(network, batch, x, h_prev, c_prev, h, c, workspace) bind(c)
            import :: c_int, c_ptr, c_size_t
            type(c_ptr), value :: network, x, h_prev, c_prev, h, c, workspace
            integer(c_size_t), value :: batch
        end function
    end interface
    procedure(lstm_step_s), pointer :: step
    integer(c_int64_t) :: n, start, finish, rate
    integer(c_int) :: status
    call c_f_procpointer(step_address, step)
    call system_clock(count_rate=rate)
    do n = 1, count
        call system_clock(start)
        status = step(network, 1_c_size_t, x, h, c, h, c, workspace)
        call system_clock(finish)
        spent(n) = (finish - start) * (1000000000_c_int64_t / rate)
    end do
end subroutine
